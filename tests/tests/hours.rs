//! Handoffs by the hours in which people are there.

use jiff::{Timestamp, ToSpan as _};
use proto::*;
use tests::{Transport, World, altered};

/// The demo's assistant.toml with people there on one day of the week only.
fn only_on(day: &str, text: &str) -> String {
    let hours = |line: &&str| line.contains("day = \"");
    let line = format!("{} = \"09:15-17:00\"", day.to_lowercase());
    let text = text.lines().filter(|line| !hours(line)).collect::<Vec<_>>().join("\n");
    text.replace("[business_hours]", &format!("[business_hours]\n{line}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_handed_over_while_nobody_is_there_reads_when_people_are_back() {
    // Neither today nor tomorrow.
    let day = Timestamp::now().in_tz("Europe/London").unwrap().checked_add(3.days()).unwrap();
    let day = day.strftime("%A").to_string();
    let closed = altered(|text| only_on(&day, &text.replace("holidays = ", "# ")));
    let world = World::over(Transport::Local, closed.path(), &[]).await;
    let back = format!("they are back on {day} at 09:15 (London time)");
    for (text, reason, words) in [
        ("agent", HandoffReason::UserKeyword, "I'm passing this chat"),
        ("I want to end my life", HandoffReason::SafetyPolicy, "116 123"),
    ] {
        let notice = world.say("", text).await.handoff.unwrap();
        assert_eq!(notice.reason(), reason, "{notice:?}");
        assert!(notice.message.contains(words) && notice.message.contains(&back), "{notice:?}");
    }
    world.stop().await;
}
