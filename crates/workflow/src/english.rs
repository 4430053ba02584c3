//! What customers say in English, as lists of phrases. Each is in the form of `Word::text`: lower case, without
//! apostrophes.

pub(crate) const YES: &str = "yes, yeah, yea, yep, yup, ye, aye, confirm, confirmed, i confirm, go ahead, go for it, go on, \
    do it, proceed, absolutely, definitely, certainly, of course, please do, yes please";
/// A yes only when nothing else is said: "ok, how long does it take" is none.
pub(crate) const WEAK_YES: &str = "y, ok, okay, k, sure, fine, right, correct, alright, all right, great, good, perfect, \
    agreed, thats right, that is right, thats correct, that is correct, sounds good, no problem, no worries";
/// Says that something is wrong, and may want it otherwise.
pub(crate) const NO: &str = "no, nope, nah, n, negative";
/// Says that nothing is to be done.
pub(crate) const REFUSAL: &str = "no thanks, no thank you, not now, not yet, dont, do not, never, rather not, \
    id rather not, i dont want, i do not want, please dont, please do not";
/// Begins like a no and is none.
pub(crate) const UNSURE: &str = "no idea, no problem, no worries, dont know, do not know, dont understand, i dont know, \
    i dont understand, do not understand, dont mind";
pub(crate) const CANCEL: &str = "cancel, cancel that, stop, stop it, abort, quit, exit, never mind, nevermind, forget it, \
    forget about it, forget that, forget this, forget the whole thing, leave it, changed my mind, i changed my mind, \
    ive changed my mind, i have changed my mind, drop it, scrap that, scrap it, dont bother, do not bother";
/// Gives up, too, but may as well be an answer where any words are one: "I don't need it any more".
pub(crate) const GIVEN_UP: &str = "dont worry, dont worry about it, ill keep it, ill keep it open, keep it, keep it open, \
    no need, no longer needed, i dont need, dont need, i dont want, i do not want, dont want";
/// What may stand beside the words of cancelling: "wait, stop", "I don't want this any more".
pub(crate) const BESIDE_CANCEL: &str = "wait, any, more, anymore, longer, mate, after, ok, okay";
/// After the words of cancelling these make them something else.
pub(crate) const TURNS: &str = "but, unless, if, instead, except, only, what, how";
/// Takes an answer, and answers nothing.
pub(crate) const THANKS: &str = "thanks, thank you, thanks a lot, thanks very much, thank you very much, many thanks, \
    cheers, ta, got it, i see, good to know";
pub(crate) const SKIP: &str = "no, nope, nah, n, not now, skip, pass, none, nothing, no reason, no comment, no thanks, \
    no thank you, rather not, id rather not, rather not say, id rather not say, prefer not to say, \
    id prefer not to say, not really, dont want to, i dont want to";
pub(crate) const FILLER: &str = "please, pls, just, oh, um, uh, hmm, well, so, then, it, this, that, thanks, thank, you, \
    i, id, like, want, to, would, lets, let, us, can, could, we, now, the, a, and, actually, sorry, whole, \
    thing, everything, request, all, of, for, me, am, im, will, be, is, do, go, ahead";
/// What stands around a value that is all the customer says: "it was on 12 March 2026", "sorry, I meant £54".
pub(crate) const AROUND: &str =
    "on, from, was, its, my, at, by, meant, mean, instead, correction, should, have, been, wait";
/// How a question begins that may lack its mark.
pub(crate) const QUESTIONS: &str = "what, whats, when, whens, where, wheres, why, whys, how, hows, who, whos, whom, whose, \
    which, can i, can you, can we, could i, could you, could we, do i, do you, do we, does, did i, did you, \
    is there, is it, is that, is this, is my, are there, are you, are my, am i, will i, will you, will it, \
    will my, would you, would it, should i, may i, have i, have you, has my, tell me";
/// What may stand before a question.
pub(crate) const LEADS: &str = "oh, um, uh, hmm, well, so, then, and, but, also, actually, sorry, please, just, ok, okay, \
    wait, hi, hello, hey, thanks, thank you, by the way, btw, quick question, first, before that";
/// After a yes these make it something else than a yes.
pub(crate) const HEDGES: &str = "no, not, never, dont, doesnt, wont, but, except, wait, hold, however, instead, unless, if, \
    actually, before, first, only, what, how, why, when, where, who, which, maybe, perhaps, later, wrong, \
    change, cancel, stop";
pub(crate) const NEGATIONS: &str = "not, isnt, wasnt, arent, werent, never, dont, didnt, nor";
/// What may stand between a negation and what it negates: "I don't think it was stolen".
pub(crate) const BRIDGES: &str = "think, believe, know, if, whether, sure, say, really, actually, it, its, that, the, a, my, \
    card, is, was, been, be";
pub(crate) const CORRECTIONS: &str = "no, actually, sorry, wait, meant, mean, instead, correction, rather, change, wrong, not, \
    oops, whoops, typo, mistyped, should";
/// Says that what follows is meant instead of what was said.
pub(crate) const TAKEN_BACK: &str = "meant, mean, oops, whoops, correction, typo, mistyped";
/// Says of something that it is wrong, without saying what is right.
pub(crate) const WRONG: &str =
    "no, wrong, incorrect, change, edit, amend, fix, update, mistake, not, isnt, typo";
/// The places of a list, each with its words.
pub(crate) const PLACES: [&str; 6] = [
    "first, 1st, 1",
    "second, 2nd, 2, two",
    "third, 3rd, 3, three",
    "fourth, 4th, 4, four",
    "fifth, 5th, 5, five",
    "sixth, 6th, 6, six",
];
pub(crate) const LAST: &str = "last, latter";
/// What stands around the name of a place.
pub(crate) const AROUND_PLACES: &str = "one, option, number, choice";
