use kit::Config as _;

use super::*;

#[test]
fn bad_values_are_named_with_their_range() {
    let mut config =
        Config { provider: Provider::Openai, base_url: "ftp://x".to_owned(), ..Config::default() };
    config.answer_threshold = 1.5;
    let price = Price {
        input_usd_per_million: -1.0,
        output_usd_per_million: 1.0,
        cached_input_usd_per_million: None,
    };
    config.prices.insert("m".to_owned(), price);
    let keys: Vec<String> = config.validate().into_iter().map(|violation| violation.key).collect();
    assert_eq!(keys, ["answer_threshold", "model", "base_url", "prices.m.input_usd_per_million"]);
    assert!(Config::default().validate().is_empty());
}

#[test]
fn cached_tokens_cost_their_own_price() {
    let price = Price {
        input_usd_per_million: 2.0,
        output_usd_per_million: 10.0,
        cached_input_usd_per_million: Some(1.0),
    };
    let cost = price.cost_usd(Usage { input: 1_000_000, cached: 500_000, output: 100_000 });
    assert!((cost - 2.5).abs() < 1e-12, "{cost}");
}

#[test]
fn own_settings_win_over_the_usual_variables_and_the_key_is_never_shown() {
    let variable = |name: &str| Some(format!("http://{}", name.to_lowercase()));
    let config = Config { base_url: "http://own".to_owned(), ..Config::default() }.or_environment(variable);
    assert_eq!(config.base_url, "http://own");
    assert!(config.api_key.is_some());
    assert!(!format!("{config:?}{}", serde_json::to_string(&config).unwrap()).contains("openai_api_key"));
    assert_eq!(Config::default().or_environment(|_| None).base_url, OPENAI);
}

#[test]
fn who_is_silenced_is_not_asked_by_model_or_by_server() {
    let local = Model {
        model: "qwen".to_owned(),
        base_url: "http://10.0.0.7:8000/v1".to_owned(),
        ..Model::default()
    };
    let asked = |silenced: &[&str]| {
        let config = Config {
            provider: Provider::Openai,
            model: "gpt".to_owned(),
            base_url: OPENAI.to_owned(),
            models: BTreeMap::from([("local".to_owned(), local.clone())]),
            fallback: vec!["local".to_owned()],
            silenced: silenced.iter().map(|name| (*name).to_owned()).collect(),
            ..Config::default()
        };
        let wrong: Vec<String> = config.validate().into_iter().map(|found| found.message).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        config.chain().into_iter().map(|(_, model)| model.model).collect::<Vec<_>>()
    };
    assert_eq!(asked(&[]), ["gpt", "qwen"]);
    assert_eq!(asked(&["gpt"]), ["qwen"]);
    assert_eq!(asked(&["api.openai.com"]), ["qwen"]);
    assert_eq!(asked(&["10.0.0.7"]), ["gpt"]);
    assert_eq!(asked(&["gpt", "qwen"]), Vec::<String>::new());
    let misspelt = Config { silenced: vec!["gtp".to_owned()], ..Config::default() };
    assert_eq!(misspelt.validate()[0].key, "silenced");
}
