//! Word lists of the grounding check, written for customer support, and how close two words are.

use std::collections::{HashMap, HashSet};

use crate::terms::Terms;

/// What stands for the same thing in an answer and its source: groups, each word by its stem.
const SYNONYMS: &str = "buy purchase|fee charge cost price|refund reimburse repay|cancel terminate|start begin commence \
launch|end finish stop cease|help assist aid support|send ship dispatch mail deliver|parcel package shipment|big large \
huge|small little tiny|quick fast rapid|near close nearby|phone call ring telephone|mobile cellphone smartphone phone|\
email mail|money cash fund|bill invoice|customer client shopper|shop store outlet|choose select pick|alter change modify \
amend edit update|fix repair mend|broken damaged faulty defective|verify confirm|allow permit let|permission authorisation \
authorization approval|forbid prohibit ban|need require|receive get obtain|keep retain|give provide supply offer|show \
display|tell inform notify|ask request|reply respond answer|wait pause|free complimentary|cheap inexpensive affordable|\
expensive costly|film movie|author writer|found establish create set|year annual yearly|month monthly|week weekly|day \
daily|hour hourly|usa america american us|uk britain british|million m|kid child|job work occupation profession|car \
vehicle automobile|doctor physician|buyer purchaser|seller vendor merchant|holiday vacation|lift elevator|post mail|purse \
wallet|password passcode|login signin|enrol enroll register signup join|upgrade improve|discount reduction|coupon voucher|\
warranty guarantee|return exchange|expire lapse|delay late|instant immediate|immediately straightaway instantly|usually \
normally typically generally|usual normal typical|famous known renowned|many numerous several|about approximately roughly \
around|maximum most|minimum least|limit cap|error mistake fault|issue problem trouble|step stage|option choice|section \
part|location place site|home house residence|firm company business corporation|boss manager|staff employee worker|picture \
photo image|document paper file|form application|increase raise rise grow|decrease reduce lower cut drop|complete finish \
full|entire whole|correct right accurate|wrong incorrect|safe secure|danger risk hazard|stolen theft steal rob|lock block \
freeze|unlock unblock unfreeze|enable activate|disable deactivate|install setup|remove delete erase|transfer move|pay \
payment|deposit put|withdraw withdrawal|account profile|order purchase|arrive come reach|leave depart departure|arrival \
arrive|baby infant|ticket pass|trip journey travel|flight plane|hotel accommodation|guest visitor|reserve book|reservation \
booking|visit attend|link url|website site|page screen|button tab|tap click press|sum amount total|rate percent|branch \
office|nation country|city town|born birth|die death dead|song track|band group|album record|win victory|sport game|kind \
type sort|method way manner|hue color colour|center centre|favorite favourite|previous prior former|original initial|main \
primary chief|quarter quarterly|overseas abroad international foreign|domestic national local|personal private|public open|\
mandatory compulsory required obligatory|optional voluntary|qualify eligible|proof evidence|identity id|duplicate copy|\
extra additional further|replace substitute swap|expedite hasten|urgent emergency|agent advisor adviser representative \
operator|complain complaint|review rating|subscribe subscription|renew renewal|penalty fine|tax duty|postpone reschedule \
delay|broad wide|consist comprise contain include|call name refer";

/// Words of which one may not replace the other: pairs.
const ANTONYMS: &str = "free charge|free pay|free cost|open close|before after|minimum maximum|least most|increase \
decrease|raise lower|raise reduce|rise fall|rise drop|grow shrink|domestic international|domestic foreign|local \
international|national international|abroad home|accept reject|accept decline|accept refuse|approve reject|approve decline|\
approve deny|allow forbid|allow prohibit|allow ban|allow block|permit prohibit|permit forbid|include exclude|enable disable|\
activate deactivate|lock unlock|block unblock|freeze unfreeze|on off|in out|up down|above below|over under|more less|more \
fewer|less most|early late|earlier later|earliest latest|first last|first second|start end|start finish|begin end|start \
stop|begin stop|keep stop|arrive depart|arrive leave|arrival departure|enter exit|enter leave|buy sell|buyer seller|send \
receive|sender recipient|sender receiver|lend borrow|deposit withdraw|deposit withdrawal|credit debit|add remove|add \
delete|plus minus|install uninstall|attach detach|connect disconnect|subscribe unsubscribe|login logout|import export|\
upload download|upgrade downgrade|win lose|won lost|succeed fail|success failure|pass fail|full empty|full partial|full \
half|whole partial|always sometimes|always rarely|often rarely|often seldom|usually rarely|everyone nobody|everything \
nothing|required optional|mandatory optional|compulsory voluntary|compulsory optional|must may|need optional|permanent \
temporary|instant delayed|immediately later|automatic manual|online offline|digital paper|digital physical|virtual \
physical|public private|public internal|personal business|personal commercial|personal corporate|business consumer|new \
old|new existing|new used|new refurbished|new same|same different|old young|adult child|parent child|male female|man woman|\
husband wife|father mother|son daughter|brother sister|he she|his her|him her|boy girl|single joint|single multiple|single \
double|single return|individual shared|individual group|inside outside|indoor outdoor|internal external|inbound outbound|\
incoming outgoing|north south|east west|left right|top bottom|front back|upper lower|high low|higher lower|highest lowest|\
large small|larger smaller|largest smallest|big small|bigger smaller|long short|longer shorter|longest shortest|fast slow|\
faster slower|quick slow|heavy light|strong weak|hot cold|wet dry|hard soft|hard easy|difficult easy|simple complex|safe \
dangerous|cheap expensive|good bad|better worse|best worst|positive negative|true false|right wrong|valid expired|possible \
impossible|visible hidden|common rare|similar different|equal different|alive dead|born died|birth death|weekday weekend|\
day night|morning evening|morning afternoon|morning night|noon midnight|am pm|past future|previous next|former current|\
current previous|ancient modern|summer winter|spring autumn|daily weekly|daily monthly|weekly monthly|monthly annually|\
monthly yearly|annual monthly|hourly daily|day week|day month|week month|month year|minute hour|hour day|gross net|profit \
loss|fixed variable|debit prepaid|phone email|email post|sms email|chat phone|branch online|store online|standard express|\
standard premium|basic premium|economy business|exempt liable|exempt subject|keep discard|keep return|keep lose|agree \
disagree|confirm deny|confirm cancel|continue stop|continue cancel|support oppose|encourage discourage|create destroy|\
appear disappear|remember forget|expand contract|extend shorten|tighten loosen|together separately|separate combined|\
majority minority|teacher student|employer employee|landlord tenant|host guest|driver passenger|doctor patient|customer \
merchant|customer agent|prior after|earn spend|save spend|gain lose|original replacement";

/// Prefixes that turn a word round, "unblock".
const OPPOSING: [&str; 6] = ["un", "in", "im", "dis", "non", "de"];

/// Words that widen or narrow what a sentence holds for.
const SCOPE: &str = "all every always any each entire whole anyone everyone everything anybody everybody anything anytime \
anywhere everywhere completely fully entirely ever both only whenever";

/// Words of talk rather than of fact.
const TALK: &str = "think thought know guess like liked love loved enjoy hope believe bet agree heard wonder feel really so \
very lot lots just maybe sure wow haha lol oh hmm cool nice great awesome amazing interesting fun funny crazy cute favorite \
favourite definitely actually pretty quite well too would wouldn't should imagine wish glad sorry exactly totally absolutely \
honestly personally wonderful fascinating ever seen tried remember";

/// Words that say little: half a word when support is counted.
const LIGHT: &str = "good great nice cool fun best better bad big small large little new old popular interest interesting \
amaze awesome love enjoy favorite favourite wow yeah yea yep nope oh haha lol absolutely definitely actually basically \
certainly probably usually generally typically mostly mainly especially particularly simply currently recently originally \
however therefore moreover furthermore additionally overall various several different certain able mean call name refer \
include contain consist provide offer type sort form part place area time day year people person man woman world number \
term word start begin find come keep hear read talk speak guess feel hope believe suppose agree sound long short high low \
early late first last next main major common general usual sometimes always already almost together around across along \
among between during since under above below back even enough every everyone everything somebody today question answer note \
case example fact point reason idea information detail allow require become remain create work play turn set put bring leave \
follow add change available simple easy hard true whole full real special specific known considered welcome happy glad \
sorry pleased ensure check visit contact";

/// Words whose endings differ by at most this many letters after a common beginning are akin.
const MAX_ENDING: usize = 4;
/// Letters that words akin begin with.
const BEGINNING: usize = 5;
/// What a synonym counts for.
const SYNONYM: f64 = 0.9;
/// What a word akin counts for, "popularity" for "popular".
const AKIN: f64 = 0.8;

/// The lists, by stem where meaning counts and by word where form does.
#[derive(Debug)]
pub(crate) struct Lexicon {
    synonyms: HashMap<String, Vec<usize>>,
    antonyms: HashMap<String, Vec<String>>,
    light: HashSet<String>,
    scope: HashSet<&'static str>,
    talk: HashSet<&'static str>,
}

impl Lexicon {
    pub(crate) fn new(terms: &Terms) -> Self {
        let mut synonyms: HashMap<String, Vec<usize>> = HashMap::new();
        for (group, words) in SYNONYMS.split('|').enumerate() {
            for word in words.split_whitespace() {
                synonyms.entry(terms.stem_of(word)).or_default().push(group);
            }
        }
        let mut antonyms: HashMap<String, Vec<String>> = HashMap::new();
        for (one, other) in ANTONYMS.split('|').filter_map(|pair| pair.split_once(' ')) {
            let (one, other) = (terms.stem_of(one), terms.stem_of(other));
            antonyms.entry(one.clone()).or_default().push(other.clone());
            antonyms.entry(other).or_default().push(one);
        }
        Self {
            synonyms,
            antonyms,
            light: LIGHT.split_whitespace().map(|word| terms.stem_of(word)).collect(),
            scope: SCOPE.split_whitespace().collect(),
            talk: TALK.split_whitespace().collect(),
        }
    }

    pub(crate) fn is_light(&self, stem: &str) -> bool {
        self.light.contains(stem)
    }

    pub(crate) fn is_scope(&self, word: &str) -> bool {
        self.scope.contains(word)
    }

    pub(crate) fn is_talk(&self, word: &str) -> bool {
        self.talk.contains(word)
    }

    /// Whether `other` says what `own` leaves out and must not say: "closed" where `own` has "open".
    pub(crate) fn opposes(&self, stem: &str, own: &HashSet<String>, other: &HashSet<String>) -> bool {
        let listed = self.antonyms.get(stem).into_iter().flatten();
        listed.into_iter().any(|opposite| other.contains(opposite) && !own.contains(opposite))
            || OPPOSING.iter().any(|prefix| {
                let bare = stem.strip_prefix(prefix).filter(|bare| bare.len() > 3);
                bare.is_some_and(|bare| other.contains(bare))
                    || stem.len() > 3 && other.contains(&format!("{prefix}{stem}"))
            })
    }
}

/// Stems to look words up in, by sound and by meaning.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) stems: HashSet<String>,
    groups: HashSet<usize>,
    beginnings: HashMap<String, Vec<String>>,
}

impl Pool {
    pub(crate) fn add(&mut self, lexicon: &Lexicon, stem: &str) {
        if !self.stems.insert(stem.to_owned()) {
            return;
        }
        self.groups.extend(lexicon.synonyms.get(stem).into_iter().flatten());
        if let Some(beginning) = beginning(stem) {
            self.beginnings.entry(beginning.to_owned()).or_default().push(stem.to_owned());
        }
    }

    /// How well a stem is found, 0..=1: itself, a synonym, a word akin. Numbers must match.
    pub(crate) fn find(&self, lexicon: &Lexicon, stem: &str) -> f64 {
        if self.stems.contains(stem) {
            return 1.0;
        }
        let synonyms = lexicon.synonyms.get(stem);
        if synonyms.is_some_and(|groups| groups.iter().any(|group| self.groups.contains(group))) {
            return SYNONYM;
        }
        let akin = beginning(stem).and_then(|beginning| self.beginnings.get(beginning));
        if akin.is_some_and(|known| known.iter().any(|other| is_akin(stem, other))) { AKIN } else { 0.0 }
    }
}

/// The letters words akin share, `None` of a number or a short word.
fn beginning(stem: &str) -> Option<&str> {
    let number = stem.starts_with(|c: char| c.is_ascii_digit());
    stem.char_indices().nth(BEGINNING - 1).filter(|_| !number).map(|(at, c)| &stem[..at + c.len_utf8()])
}

fn is_akin(one: &str, other: &str) -> bool {
    let common = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    one.chars().count().max(other.chars().count()) - common <= MAX_ENDING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_themselves_by_meaning_and_by_form() {
        let terms = Terms::new();
        let lexicon = Lexicon::new(&terms);
        let mut pool = Pool::default();
        for word in ["refund", "popular", "blocked", "2026", "open"] {
            pool.add(&lexicon, &terms.stem_of(word));
        }
        let find = |word: &str| pool.find(&lexicon, &terms.stem_of(word));
        assert_eq!([find("refunds"), find("reimbursed"), find("popularity")], [1.0, SYNONYM, AKIN]);
        assert_eq!([find("2027"), find("pizza")], [0.0, 0.0]);
        let own = HashSet::new();
        assert!(lexicon.opposes("unblock", &own, &pool.stems) && lexicon.opposes("clos", &own, &pool.stems));
        assert!(!lexicon.opposes("refund", &own, &pool.stems));
    }
}
