//! Dialogues: what customers say, and what they read next.

use super::support::{self, Desk};

/// `say [intent] text` lines and what follows: the message the customer reads, or YES (confirmed), ELSE
/// (not for the workflow), END (cancelled), PERSON (asked too often).
const DIALOGUES: &[(&str, &str)] = &[
    ("everything at once", "
        lost_card: I was robbed, the card ends in 5678 -> Block 5678 as stolen?
        : yes -> YES"),
    ("one after the other", "
        lost_card: my card is gone -> Last four?
        : 5678 -> Lost or stolen?
        : I can’t find it -> Block 5678 as lost?
        : Yes please! -> YES"),
    ("an answer fills two", "
        lost_card: help -> Last four?
        : it's 5678 and it was stolen -> Block 5678 as stolen?"),
    ("an answer fills the other one only", "
        lost_card: help -> Last four?
        : it was stolen -> Last four?
        : 5678 -> Block 5678 as stolen?"),
    ("the long number of a card is no last four", "
        lost_card: lost card 1234-5678-9012-3456 -> Last four?
        : 3456 -> Block 3456 as lost?"),
    ("a year and an amount are no last four", "
        lost_card: lost it on 12 March 2026 with £1234 on it -> Last four?"),
    ("two candidates are asked about", "
        lost_card: lost 1234 or 5678 -> Last four?
        : 1234 or 5678 -> Four digits, please.
        : 1234 -> Block 1234 as lost?"),
    ("a negation is no value", "
        lost_card: 5678 was not stolen -> Lost or stolen?
        : not stolen, lost -> Block 5678 as lost?"),
    ("corrected by value", "
        lost_card: lost 1234 -> Block 1234 as lost?
        : no, the other card, 5678 -> Block 5678 as lost?
        : not 5678 but 9999 -> Block 9999 as lost?
        : yes -> YES"),
    ("corrected by word and confirmed", "
        lost_card: lost 1234 -> Block 1234 as lost?
        : yes, but it was stolen -> Block 1234 as stolen?
        : go ahead -> YES"),
    ("a yes that repeats a value is a yes", "
        lost_card: lost 1234 -> Block 1234 as lost?
        : yes, block 1234 -> YES"),
    ("no", "
        lost_card: lost 1234 -> Block 1234 as lost?
        : No thanks -> END"),
    ("given up while asked", "
        lost_card: help -> Last four?
        : oh never mind -> END
        : 5678 -> ELSE"),
    ("given up at the confirmation", "
        lost_card: lost 1234 -> Block 1234 as lost?
        : stop -> END"),
    ("given up with a reason", "
        lost_card: help -> Last four?
        : cancel, but what if -> Four digits, please.
        : forget it, I have found it -> END
        lost_card: lost 1234 -> Block 1234 as lost?
        : yes, stop it -> Please answer yes or no, or tell me what to change. Block 1234 as lost?
        : someone has handed it in, cancel please -> END"),
    ("a doubt between the value and another corrects nothing", "
        lost_card: lost 1234 -> Block 1234 as lost?
        : is it 1234 or 5678 -> Please answer yes or no, or tell me what to change. Block 1234 as lost?
        : not 1234, 5678 -> Block 5678 as lost?"),
    ("unclear answers to the confirmation", "
        lost_card: lost 1234 -> Block 1234 as lost?
        : hmm -> Please answer yes or no, or tell me what to change. Block 1234 as lost?
        : yes but when does it happen -> Please answer yes or no, or tell me what to change. Block 1234 as lost?
        : I don't know -> PERSON
        : yes -> ELSE"),
    ("asked too often", "
        lost_card: help -> Last four?
        : what -> Four digits, please.
        : 12 -> Four digits, please.
        : 123 -> PERSON"),
    ("the count starts anew with every slot", "
        lost_card: help -> Last four?
        : what -> Four digits, please.
        : eh -> Four digits, please.
        : 5678 -> Lost or stolen?
        : what -> Lost or stolen?
        : eh -> Lost or stolen?
        : lost -> Block 5678 as lost?"),
    ("a question in between is for somebody else", "
        lost_card: help -> Last four?
        hours: when are you open? -> ELSE
        : 5678 -> Lost or stolen?
        : lost -> Block 5678 as lost?
        hours: when are you open? -> ELSE
        : yes -> Block 5678 as lost?
        hours: when are you open? -> ELSE
        : hmm -> Please answer yes or no, or tell me what to change. Block 5678 as lost?
        : yes -> YES"),
    ("a yes after a question in between is enough where it does no harm", "
        cancel_order: cancel order HB-123456 -> Cancel HB-123456?
        hours: when are you open? -> ELSE
        : yes -> YES"),
    ("thanks for an answer in between is no yes", "
        lost_card: lost 5678 -> Block 5678 as lost?
        hours: when are you open? -> ELSE
        : ok thanks -> Block 5678 as lost?
        : ok -> YES"),
    ("an uncertain question in between is not", "
        lost_card: help -> Last four?
        ?hours: open? -> Four digits, please."),
    ("an uncertain question that is longer may have an answer, so often as a question is repeated", "
        lost_card: lost 1234 -> Block 1234 as lost?
        ?hours: will my salary still be paid? -> ELSE
        : yes -> Block 1234 as lost?
        ?hours: is it 1234 or 5678? -> Please answer yes or no, or tell me what to change. Block 1234 as lost?
        ?hours: what happens to my direct debits -> ELSE
        ?hours: and how long does all of that take? -> PERSON"),
    ("another workflow has to wait", "
        lost_card: help -> Last four?
        refund: I want my money back -> Let us finish this first, or say \"cancel\". Last four?"),
    ("what is riskier does not wait", "
        cancel_order: cancel my order -> Which order?
        lost_card: Actually I lost my card, block it first -> Let us do this first; I have dropped your other request and done nothing for it. Last four?
        : 5678 -> Block 5678 as lost?
        cancel_order: cancel my order -> Let us finish this first, or say \"cancel\". Block 5678 as lost?
        : yes -> YES"),
    ("an answer that looks like a riskier request is an answer", "
        cancel_order: cancel my order -> Which order?
        lost_card: it's HB-123456 -> Cancel HB-123456?
        lost_card: yes -> YES"),
    ("no workflow without its intent", "
        hours: I lost card 5678 -> ELSE
        ?lost_card: I lost card 5678 -> ELSE
        : yes -> ELSE"),
    ("all types, asked one by one", "
        refund: I want my money back -> How much?
        : 20 -> When?
        : 12/03/2026 -> Which shop?
        : Double Coffee, 5 High Street -> Which e-mail?
        : a.b+c@shop.example. -> Which order, if any?
        : no -> Pay 20.00 of 12 March 2026 from Double Coffee, 5 High Street to a.b+c@shop.example?
        : that is correct -> YES"),
    ("all types at once but free text", "
        refund: £1,250.5 no, £20 for order AB-1234 on 2026-03-12, me@x.example -> Which shop?
        : Tesco -> Pay 20.00 of 12 March 2026 from Tesco to me@x.example for AB-1234?"),
    ("amount out of range or in another currency", "
        refund: money back -> How much?
        : 500.01 -> Up to 500 pounds.
        : $20 -> Up to 500 pounds.
        : six hundred -> PERSON"),
    ("amount corrected", "
        refund: £10 on 1 Feb 2026, me@x.example, order 5512 -> Which shop?
        : Tesco -> Pay 10.00 of 1 February 2026 from Tesco to me@x.example for 5512?
        : actually 20 pounds -> Pay 20.00 of 1 February 2026 from Tesco to me@x.example for 5512?
        : and it was 2 Feb 2026 -> Pay 20.00 of 2 February 2026 from Tesco to me@x.example for 5512?
        : yes -> YES"),
    ("corrected while another is asked", "
        refund: £10 -> When?
        : sorry, £15 -> When?
        : £30 on 1/2/2026 -> Which shop?
        : Tesco -> Which e-mail?
        : me@x.example -> Which order, if any?
        : skip -> Pay 15.00 of 1 February 2026 from Tesco to me@x.example?"),
    ("impossible days", "
        refund: £10 -> When?
        : 31/02/2026 -> When?
        : 12 March -> When?
        : 12 March 2026 -> Which shop?"),
    ("a question is no free text", "
        refund: £10 on 1 Feb 2026 -> Which shop?
        hours: when are you open? -> ELSE
        : thanks -> Which shop?
        : Tesco -> Which e-mail?"),
    ("a free text after a question in between is kept, and what else it says", "
        refund: £10 on 1 Feb 2026 -> Which shop?
        hours: when are you open? -> ELSE
        : Tesco, I am me@x.example -> Which order, if any?
        : skip -> Pay 10.00 of 1 February 2026 from Tesco, I am me@x.example to me@x.example?"),
    ("what is said to the answer in between is no free text", "
        refund: £10 on 1 Feb 2026 -> Which shop?
        hours: when are you open? -> ELSE
        : ok -> Which shop?
        hours: and on sundays? -> ELSE
        ?hours: is that so -> Which shop?
        : yes -> Which shop?
        : Tesco -> Which e-mail?"),
    ("a value of another type is no free text", "
        refund: £10 on 1 Feb 2026 -> Which shop?
        : 31/12/2026 -> Which shop?
        : it was £600 -> Which shop?
        : me@x.example -> Which shop?
        : Tesco -> Which order, if any?"),
    ("a question without its mark is no free text", "
        close: close it -> Why, if you like?
        hours: what are your opening hours -> ELSE
        : ok thanks -> Why, if you like?
        move: can I move money -> Let us finish this first, or say \"cancel\". Why, if you like?
        : what you charge is too much -> Close it, because what you charge is too much?"),
    ("yes and no are no free text", "
        close: close it -> Why, if you like?
        : yes -> Why, if you like?
        : no -> Close it?"),
    ("free text may hold words of cancelling", "
        refund: £10 on 1 Feb 2026 -> Which shop?
        : Never Mind Records -> Which e-mail?
        : cancel -> END"),
    ("an optional slot that nobody understands is left out", "
        refund: £10 on 1 Feb 2026, me@x.example -> Which shop?
        : Tesco -> Which order, if any?
        : eh -> Which order, if any?
        : eh -> Which order, if any?
        : eh -> Pay 10.00 of 1 February 2026 from Tesco to me@x.example?"),
    ("a workflow named cancel is not given up by its name", "
        cancel_order: cancel my order please -> Which order?
        : hb-123456 -> Cancel HB-123456?
        : cancel it -> Please answer yes or no, or tell me what to change. Cancel HB-123456?
        : yes, cancel it -> YES"),
    ("full-width digits and invisible characters", "
        cancel_order: order ＨＢ-１２３\u{200b}４５６ -> Cancel HB-123456?"),
    ("two slots of one type are asked for", "
        move: from 1111 to 2222 -> From?
        : 1111 -> To?
        : 2222 -> Move from 1111 to 2222?
        : no, 3333 -> All right. What should I change? You can also say \"cancel\".
        : the sink -> Please answer yes or no, or tell me what to change. Move from 1111 to 2222?
        : the sink is wrong -> To?
        : 3333 -> Move from 1111 to 3333?
        : yes -> YES"),
    ("a no asks what to change, and a second one ends it", "
        lost_card: lost 1234 -> Block 1234 as lost?
        : no -> All right. What should I change? You can also say \"cancel\".
        : yes -> Block 1234 as lost?
        : no -> All right. What should I change? You can also say \"cancel\".
        : 5678 -> Block 5678 as lost?
        : nope -> All right. What should I change? You can also say \"cancel\".
        : no -> END"),
    ("a yes to the confirmation that was repeated after a no is one", "
        lost_card: lost 1234 -> Block 1234 as lost?
        : no -> All right. What should I change? You can also say \"cancel\".
        : hmm -> Please answer yes or no, or tell me what to change. Block 1234 as lost?
        : yes -> YES"),
    ("a yes after a no is asked again even where it does no harm", "
        cancel_order: cancel order HB-123456 -> Cancel HB-123456?
        : no -> All right. What should I change? You can also say \"cancel\".
        : yes -> Cancel HB-123456?
        : yes -> YES"),
    ("a question about another workflow does not ask for it", "
        lost_card: lost 1234 -> Block 1234 as lost?
        refund: how long does a refund take? -> ELSE
        refund: can you get me a refund? -> Let us finish this first, or say \"cancel\". Block 1234 as lost?"),
    ("a question chooses nothing", "
        lost_card: help, 1234 -> Lost or stolen?
        hours: what happens when it is stolen? -> ELSE
        : it is stolen -> Block 1234 as stolen?"),
];

#[tokio::test]
async fn customers_are_understood() {
    let dir = support::bundle();
    let desk = Desk::open(dir.path(), &support::targets()).await;
    for (name, script) in DIALOGUES {
        desk.talk(name);
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (said, wanted) = line.split_once(" -> ").unwrap();
            let (intent, text) = said.split_once(':').unwrap();
            let heard = desk.say(text.trim(), intent).await;
            let got = match &heard {
                heard if !heard.handled => "ELSE",
                heard if heard.confirmed => "YES",
                heard if heard.exhausted => "PERSON",
                heard if heard.status.as_ref().unwrap().state() == proto::ExecutionState::Cancelled => "END",
                heard => heard.message.as_str(),
            };
            assert_eq!(got, wanted, "{name}: {said}");
        }
    }
}

#[tokio::test]
async fn the_same_turn_gets_the_same_answer_and_starts_one_execution() {
    let dir = support::bundle();
    let desk = Desk::open(dir.path(), &support::targets()).await;
    let ask = || desk.send("t", "lost card", "lost_card", 0.9);
    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    assert_eq!((&a, &b), (&b, &c));
    assert_eq!(a.status.as_ref().unwrap().missing_slots, ["last4"]);
    let wrong = || desk.send("u", "what", "", 0.0);
    for _ in 0..5 {
        assert_eq!(wrong().await.unwrap().message, "Four digits, please.");
    }
    desk.say("12", "").await;
    assert!(desk.say("13", "").await.exhausted, "the repeated turn counted once");
}

#[tokio::test]
async fn what_an_answer_in_between_leaves_open_is_told_and_what_has_no_target_does_not_begin() {
    let dir = support::bundle();
    let desk = Desk::open(dir.path(), &support::targets()).await;
    let open = async |said: &str, intent: &str| {
        let heard = desk.say(said, intent).await;
        (heard.handled, heard.status.is_some(), heard.message)
    };
    assert_eq!(open("when are you open?", "hours").await, (false, false, String::new()));
    desk.say("help", "lost_card").await;
    assert_eq!(open("when are you open?", "hours").await, (false, true, "Last four?".to_owned()));
    desk.say("lost 1234", "").await;
    let still = "Shall I go on with your request?".to_owned();
    assert_eq!(open("when are you open?", "hours").await, (false, true, still));

    let nowhere = support::bundle();
    let desk = Desk::open(nowhere.path(), "").await;
    let error = desk.send("t", "lost card", "lost_card", 0.9).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    assert_eq!(error.message(), "target bank is not configured, add [workflow.targets.bank]");
    assert!(!desk.say("yes", "").await.handled, "nothing is open");
}

#[tokio::test]
async fn confidence_decides_and_garbage_is_refused_by_name() {
    let dir = support::bundle();
    let desk = Desk::open(dir.path(), &support::targets()).await;
    assert!(!desk.send("a", "lost card", "lost_card", 0.59).await.unwrap().handled);
    for confidence in [f64::NAN, -0.1, 1.000_000_1, f64::INFINITY] {
        let error = desk.send("b", "lost card", "lost_card", confidence).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.message().contains("allowed 0..=1"), "{error}");
    }
    assert!(
        desk.send("c", "", "lost_card", 0.9).await.unwrap_err().message().starts_with("text: has 0 bytes")
    );
    assert!(desk.send("d", "lost card", "lost_card", 0.6).await.unwrap().handled);
}
