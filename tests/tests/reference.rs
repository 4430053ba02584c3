//! `firstline.toml` in the root is the reference: every setting, each with its default.

use std::path::Path;

use kit::Config;
use kit::config::Settings;

fn same<C: Config>(settings: &Settings, file: &toml::Table, table: &str) {
    let default = toml::Table::try_from(C::default()).unwrap();
    let read = toml::Table::try_from(settings.table::<C>(table).unwrap()).unwrap();
    assert_eq!(read, default, "[{table}] is not the default");
    let listed = file[table].as_table().unwrap();
    for key in default.keys() {
        assert!(listed.contains_key(key), "[{table}] {key} is not listed");
    }
}

#[test]
fn the_reference_configuration_lists_every_setting_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firstline.toml");
    let file: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    let settings = Settings::load(Some(&path), std::iter::empty()).unwrap();
    same::<kit::config::Server>(&settings, &file, "server");
    same::<classifier::Config>(&settings, &file, classifier::NAME);
    same::<safety::Config>(&settings, &file, safety::NAME);
    same::<retriever::Config>(&settings, &file, retriever::NAME);
    same::<generator::Config>(&settings, &file, generator::NAME);
    same::<workflow::Config>(&settings, &file, workflow::NAME);
    same::<telemetry::Config>(&settings, &file, telemetry::NAME);
    same::<orchestrator::Config>(&settings, &file, orchestrator::NAME);
}

#[test]
fn the_example_of_a_target_lists_every_setting_and_its_defaults_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firstline.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let example = text.split_once("# [workflow.targets.bank]\n").unwrap().1.split_once("\n[").unwrap().0;
    let listed = example.lines().filter_map(|line| line.strip_prefix("# "));
    let listed: toml::Table = listed.collect::<Vec<_>>().join("\n").parse().unwrap();
    let default = toml::Table::try_from(webhook::Target::default()).unwrap();
    assert!(listed.keys().eq(default.keys()), "{listed:?}");
    for key in ["allow_private", "format"] {
        assert_eq!(listed[key], default[key]);
    }
}

/// The keys of an example that is commented out, and those of a table with keys that are not written.
fn listed(head: &str, default: &toml::Table, unwritten: &[&str]) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firstline.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let example = text.split_once(&format!("# [{head}]")).unwrap().1.split_once('\n').unwrap().1;
    let lines = example.split_once("\n[").unwrap().0.lines().filter_map(|line| line.strip_prefix("# "));
    let listed: toml::Table = lines.collect::<Vec<_>>().join("\n").parse().unwrap();
    let mut known: Vec<_> = default.keys().map(String::as_str).chain(unwritten.iter().copied()).collect();
    known.sort_unstable();
    let mut keys: Vec<_> = listed.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, known, "{head}");
    listed
}

#[test]
fn the_example_of_a_connector_lists_every_setting() {
    let default = toml::Table::try_from(orchestrator::Connector::default()).unwrap();
    // Secrets are not written back.
    let listed = listed("orchestrator.connectors.chat", &default, &["token", "password"]);
    let _: orchestrator::Connector = listed.try_into().unwrap();
}

#[test]
fn the_example_of_a_model_lists_every_setting() {
    let default = toml::Table::try_from(generator::config::Model::default()).unwrap();
    // What is left out is that of the first model.
    let own = ["api_key", "timeout_ms", "idle_timeout_ms", "max_tokens", "tokenizer", "temperature", "price"];
    let listed = listed("generator.models.local", &default, &own);
    let _: generator::config::Model = listed.try_into().unwrap();
}
