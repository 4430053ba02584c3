//! The override over generated messages: every disguise of the word reaches a person, ordinary words do not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

mod disguises;
mod ordinary;

use std::collections::BTreeSet;

use bundle::{Assistant, KeywordMode, Reader};
use orchestrator::{Found, Keywords};

/// All languages the platform has words for.
const LOCALES: [&str; 17] = [
    "en-GB", "de", "fr", "es", "it", "pt_BR", "nl", "pl", "ru", "uk", "tr", "ar", "hi", "zh-Hans", "ja",
    "ko", "sv",
];
/// Where the word stands in a sentence.
const SENTENCES: [&str; 14] = [
    "{}",
    "{} please",
    "please get me an {}",
    "I have asked twice now. {}! My card is still blocked",
    "can i speak to the {} who wrote to me yesterday?",
    "my order 7731-B has not come, so {}, now",
    "Hello,\n\n{}\n\nThanks, Jo",
    "no bot. {}.",
    "Bonjour, je voudrais un {} svp",
    "ich will einen {} sprechen",
    "请给我 {} 谢谢",
    "соедините меня: {}",
    "I paid 12.50 EUR on 3/4/2026 at 10:45 ({})",
    "where is the {}",
];

fn assistant(locales: &[&str]) -> Assistant {
    let text = r#"
        schema = 1
        name = "test"
        title = "Test"
        locales = ["en"]
        handoff.message = "A colleague takes over."
        categories.general.title = "General"
    "#;
    let mut assistant: Assistant = toml::from_str(text).unwrap();
    assistant.locales = locales.iter().map(|&tag| tag.to_owned()).collect();
    assistant
}

fn keywords(mode: KeywordMode, locales: &[&str]) -> Keywords {
    let mut assistant = assistant(locales);
    assistant.handoff.keyword_mode = mode;
    Keywords::of(&assistant).unwrap()
}

#[test]
fn every_disguise_of_the_word_reaches_a_person() {
    let disguises = disguises::all();
    assert!(disguises.len() >= 5000, "{}", disguises.len());
    let placed = disguises.iter().enumerate().flat_map(|(at, disguise)| {
        [0, 5].map(|further| SENTENCES[(at + further) % SENTENCES.len()].replace("{}", disguise))
    });
    let mut messages: BTreeSet<_> = placed.collect();
    let long = "I would like to know what became of my parcel, and why. ".repeat(100);
    messages.extend(disguises.iter().step_by(50).map(|disguise| format!("{long}{disguise} {long}")));
    let strict = keywords(KeywordMode::Strict, &["en"]);
    assert_eq!(strict.look(&"long ".repeat(60_000)), Found::Person, "what is too long to search");
    let missed: Vec<_> = messages.iter().filter(|message| strict.look(message) != Found::Person).collect();
    assert!(missed.is_empty(), "{} of {}: {missed:#?}", missed.len(), messages.len());
}

#[test]
fn ordinary_messages_without_the_word_reach_nobody() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/demo");
    let demo = Reader::open(demo.as_ref()).unwrap();
    let lacks = |text: &String| !text.to_lowercase().contains("agent");
    let meant = demo.intents().unwrap().into_iter().filter(|intent| !intent.handoff);
    let examples = meant.flat_map(|intent| intent.examples);
    let examples = examples.chain(demo.out_of_scope().unwrap().into_iter().map(|(_, text)| text));
    let generated: BTreeSet<_> = ordinary::english().into_iter().collect();
    assert!(generated.len() >= 10_000, "{}", generated.len());
    let messages: BTreeSet<_> = generated
        .into_iter()
        .chain(examples.filter(lacks))
        .chain(ordinary::ABROAD.map(str::to_owned))
        .collect();
    let strict = keywords(KeywordMode::Strict, &LOCALES);
    let wrong: Vec<_> = messages.iter().filter(|message| strict.look(message) != Found::Nothing).collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), messages.len());
}

#[test]
fn every_language_reaches_a_person_in_its_own_words_where_the_bundle_speaks_it() {
    for (locale, asked) in [
        (
            "en",
            &["Can I talk to a real person?", "human!", "ᴛᴀʟᴋ to a huмan", "put me through to a human, now"]
                [..],
        ),
        (
            "de",
            &[
                "Ich möchte mit einem Mitarbeiter sprechen",
                "Mitarbeiter bitte!",
                "verbinden Sie mich mit einem Menschen",
            ],
        ),
        ("fr", &["je veux parler à un conseiller", "Un humain ?", "PARLER A UN CONSEILLER"]),
        ("es", &["quiero hablar con un agente", "agente", "pásame con una persona"]),
        ("it", &["vorrei parlare con un operatore", "Operatore!"]),
        ("pt-BR", &["quero falar com um atendente", "atendente"]),
        ("nl", &["ik wil met een medewerker spreken", "medewerker"]),
        ("pl", &["chcę porozmawiać z konsultantem", "Konsultant"]),
        ("ru", &["Позовите оператора", "оператор!!", "хочу поговорить с живым человеком"]),
        ("uk", &["хочу поговорити з людиною", "оператор"]),
        ("tr", &["Müşteri temsilcisine bağlanmak istiyorum", "MÜŞTERİ TEMSİLCİSİ", "CANLI DESTEK"]),
        ("ar", &["أريد التحدث مع موظف", "موظف"]),
        ("hi", &["मुझे किसी इंसान से बात करनी है", "इंसान"]),
        ("zh", &["请帮我转人工", "人工", "我要找人工客服谢谢"]),
        ("ja", &["オペレーターにつないでください", "ｵﾍﾟﾚｰﾀｰ", "人間と話したい"]),
        ("ko", &["상담원을 연결해 주세요", "사람"]),
        ("sv", &["jag vill prata med en människa", "Handläggare"]),
    ] {
        let (served, other) =
            (keywords(KeywordMode::Strict, &[locale]), keywords(KeywordMode::Strict, &["fi"]));
        for message in asked {
            assert_eq!(served.look(message), Found::Person, "{message}");
            assert_eq!(other.look(message), Found::Nothing, "{message}");
        }
    }
}

#[test]
fn the_keywords_of_a_bundle_count_in_every_language() {
    let mut assistant = assistant(&["fi"]);
    let own = [("en", vec!["human".to_owned(), "real person".to_owned()]), ("zh", vec!["人工".to_owned()])];
    assistant.handoff.keywords = own.map(|(locale, words)| (locale.to_owned(), words)).into();
    let keywords = Keywords::of(&assistant).unwrap();
    for message in
        ["give me a HUMAN", "the hu\u{200b}man's", "human를", "h u m a n", "a real person?", "我要人工服务"]
    {
        assert_eq!(keywords.look(message), Found::Person, "{message}");
    }
    for message in ["", "humane", "unreal personality", "my urgent transfer", "🙂"] {
        assert_eq!(keywords.look(message), Found::Nothing, "{message}");
    }
}

#[test]
fn the_mode_intent_offers_a_person_where_the_word_means_none() {
    let (strict, intent) = (keywords(KeywordMode::Strict, &["en"]), keywords(KeywordMode::Intent, &["en"]));
    for message in [
        "my travel agent booked the wrong hotel",
        "Travel Agents get a discount?",
        "the user agent is blocked",
        "set the User-Agent: curl header",
        "user_agent is empty",
        "my real-estate agent asks for a letter",
        "an estate agent wants proof of funds",
        "which cleaning agent is safe for leather",
        "is this an AI agent?",
        "my insurance agent sold me this",
        "the shipping\nagent lost it",
        "a letting agent and a secret agent, a free agent, a bleaching agent and a double agent",
        "are you a virtual аgent",
        "agent-based models",
        "is it agent orange?",
        "> I am an agent of the bank\nwho wrote this to me?",
        "what does `agent` do",
        "my log:\n```\nagent started\n```\nwhat is wrong",
        "> can I talk to a human\nwhat did you mean by that",
    ] {
        assert_eq!(intent.look(message), Found::Offer, "{message}");
        assert_eq!(strict.look(message), Found::Person, "{message}");
    }
    for message in [
        "agent",
        "AGENT!!",
        "a g e n t",
        "agentt please",
        "a real agent",
        "a live agent please",
        "I need a customer service agent",
        "no travel. Agent!",
        "for my travel, agent please",
        "my travel agent was no help, get me an agent",
        "I am an AI. agent",
        "> agent\nagent",
        "```\nno end of the code\nagent",
        "it`s time for an agent",
        "what does `agent` do? can I talk to a human",
        "\u{202e}tnega\u{202c}",
    ] {
        assert_eq!(intent.look(message), Found::Person, "{message}");
    }
    for message in ["agentic", "a gent", "my travel agency", "`code` only"] {
        assert_eq!(intent.look(message), Found::Nothing, "{message}");
    }
}
