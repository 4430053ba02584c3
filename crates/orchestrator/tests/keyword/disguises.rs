//! The word "agent" as people and attackers disguise it.

use std::collections::BTreeSet;

/// Every disguise once.
pub(crate) fn all() -> BTreeSet<String> {
    let mut disguises = Vec::new();
    for family in [separated, imitated, alphabets, hidden, glued] {
        family(&mut disguises);
    }
    disguises.into_iter().collect()
}

/// Every choice of one from each list, joined.
fn product(choices: &[&[&str]]) -> Vec<String> {
    choices.iter().fold(vec![String::new()], |made, options| {
        made.iter().flat_map(|start| options.iter().map(move |option| format!("{start}{option}"))).collect()
    })
}

fn letters(word: &str) -> Vec<String> {
    word.chars().map(String::from).collect()
}

/// Separators between all letters, the same one and several, and signs between some.
fn separated(all: &mut Vec<String>) {
    let signs =
        [".", "-", "_", "*", "/", "|", "~", "·", "…", ",", "😀", "..", "'", "+", "@", "=", "•", "\u{2800}"];
    let spaces = [" ", "  ", "\n", "\t", "\u{a0}", " - ", " . ", "\r\n", "   ", "\u{3000}", ".\n"];
    for word in ["agent", "AGENT", "agents", "Agent"] {
        for separator in signs.iter().chain(&spaces) {
            all.push(letters(word).join(separator));
            all.push(
                word.chars().flat_map(|c| [c.to_string(), c.to_string()]).collect::<Vec<_>>().join(separator),
            );
        }
        let mixed: Vec<&str> = signs.iter().chain(&spaces).copied().collect();
        for start in 0..mixed.len() {
            let separator = |at: usize| mixed[(start + at * 7) % mixed.len()];
            let spelled = word.chars().enumerate();
            all.push(
                spelled
                    .map(|(at, c)| if at == 0 { c.to_string() } else { format!("{}{c}", separator(at)) })
                    .collect(),
            );
        }
    }
    for sign in [".", "-", "_", "*", "·", "--", "😀"] {
        let gap = ["", sign];
        all.extend(product(&[&["a", "A"], &gap, &["g"], &gap, &["e"], &gap, &["n"], &gap, &["t"]]));
    }
}

/// Letters of other scripts, digits and signs, letters again and again, also separated.
fn imitated(all: &mut Vec<String>) {
    let other = [
        &["a", "а", "α", "@"][..],
        &["g", "ɡ", "ց"],
        &["e", "е", "є", "3"],
        &["n", "п", "η", "ո"],
        &["t", "т", "τ"],
    ];
    let mut words = product(&other);
    let leet = [&["a", "4", "@"][..], &["g"], &["e", "3", "€"], &["n", "N"], &["t", "7", "+"]];
    words.extend(product(&leet));
    all.extend(
        ["a9ent", "A6ENT", "@gent", "4g3n7", "ag3n75", "４gent", "ag𝟑n𝟟", "agent$", "4.g.3.n.7", "4 g 3 n t"]
            .map(str::to_owned),
    );
    let again = [
        &["a", "AA", "aaaa"][..],
        &["g", "gg", "ggg"],
        &["e", "ee", "eee"],
        &["n", "nn"],
        &["t", "tt", "tttttttt"],
    ];
    words.extend(product(&again));
    for separator in [".", " ", "\u{200b}-\u{200b}"] {
        all.extend(words.iter().map(|word| letters(word).join(separator)));
    }
    all.extend(words);
}

/// Alphabets that Unicode holds beside the plain one, whole and one letter at a time.
fn alphabets(all: &mut Vec<String>) {
    let shifted = |word: &str, first: u32| -> Vec<String> {
        let of = |c: u8| char::from_u32(first + u32::from(c.to_ascii_lowercase() - b'a')).unwrap();
        word.bytes().map(|c| of(c).to_string()).collect()
    };
    let math = (0..26)
        .map(|at| 0x1d400 + at * 26)
        .filter(|first| ![0x1d44e, 0x1d49c, 0x1d4b6, 0x1d504, 0x1d538].contains(first));
    let others = [0xff21, 0xff41, 0x24b6, 0x24d0, 0x249c, 0x1f110, 0x1f130, 0x1f150, 0x1f170, 0x1f1e6];
    let mut written: Vec<_> = math.chain(others).map(|first| shifted("agent", first)).collect();
    let toys = [
        "ᴀɢᴇɴᴛ",
        "ᵃᵍᵉⁿᵗ",
        "卂Ꮆ乇几ㄒ",
        "ąɠɛŋɬ",
        "áğêñţ",
        "ᗩGEᑎT",
        "ᏗᎶᏋᏁᏖ",
        "ǟɢɛռȶ",
        "₳₲Ɇ₦₮",
        "ꪖᧁꫀꪀꪻ",
        "ꋬꁅꏂꋊ꓄",
        "ᗋᘜᘿᘉᖶ",
        "ΛGΞИ†",
        "åցҽղէ",
        "𝒶ℊℯ𝓃𝓉",
    ];
    written.extend(toys.map(letters));
    for fancy in written {
        all.push(fancy.concat());
        all.push(fancy.join(" "));
        for at in 0..5 {
            let mut word = letters("agent");
            word[at].clone_from(&fancy[at]);
            all.push(word.concat());
        }
    }
}

/// Characters that nobody sees, marks over the letters, letters turned round.
fn hidden(all: &mut Vec<String>) {
    let unseen = "\u{ad}\u{34f}\u{61c}\u{115f}\u{17b4}\u{180b}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202c}\u{202d}\u{2060}\u{2063}\u{2066}\u{2069}\u{206a}\u{3164}\u{fe00}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{e0001}\u{e0061}\u{e007f}\u{e0100}\0\u{7f}";
    for c in unseen.chars() {
        all.extend((0..=5).map(|at| format!("{}{c}{}", &"agent"[..at], &"agent"[at..])));
        all.push(letters("AGENT").join(&c.to_string().repeat(3)));
    }
    for marks in
        ["\u{301}", "\u{334}\u{321}", "\u{336}", "\u{20dd}", "\u{489}", "\u{35c}\u{32f}\u{363}\u{31f}\u{340}"]
    {
        for word in ["agent", "AGENT", "Agents"] {
            all.push(format!("{}{marks}", letters(word).join(marks)));
            all.push(word.replace(['a', 'A'], &format!("a{marks}")));
            all.push(word.replace(['t', 'T'], &format!("t{marks}")));
        }
    }
    for word in ["tnega", "TNEGA", "stnega", "t n e g a"] {
        all.push(format!("\u{202e}{word}\u{202c}"));
        all.push(format!("\u{2066}\u{202e}{word}"));
    }
    all.push("ag\u{202e}tne\u{202c}".to_owned());
}

/// What people glue to a word.
fn glued(all: &mut Vec<String>) {
    let before = [
        "#",
        "/",
        "@",
        "!",
        "¿",
        "(",
        "[",
        "{",
        "<",
        "\"",
        "'",
        "«",
        "„",
        "“",
        "*",
        "**",
        "_",
        "~",
        "=",
        "-",
        "—",
        ">",
        "🙏",
        "🇬🇧",
        "1️⃣",
        "👩‍💻",
        "。",
        "、",
        "yes.",
        "a:",
        "l'",
        "+",
        "²",
        "①",
        "tell:",
    ];
    let behind = [
        "", "!", "!!!111", "?", "...", "…", ")", "]", "\"", "'s", "’a", "*", "_", "~", ";", ":", "🙏", "🇪🇸",
        "™", "®", "ℹ️", "1️⃣", "를", "さん", "。", "،", "/help", "-please", "&", "\\", "²",
    ];
    for start in before {
        all.extend(behind.iter().map(|end| format!("{start}agent{end}")));
    }
    all.extend(behind.iter().flat_map(|end| ["AGENTS", "аgent", "4gent"].map(|word| format!("{word}{end}"))));
    for bits in 0..32_u32 {
        let cased = "agent"
            .char_indices()
            .map(|(at, c)| if bits >> at & 1 == 1 { c.to_ascii_uppercase() } else { c });
        all.push(cased.collect());
    }
}
