use super::*;

const SHOP: &str = r##"
openapi: 3.1.0
info: { title: Shop, version: "1" }
servers:
  - url: https://{region}.shop.example/v2
    variables: { region: { default: eu } }
security: [{ oauth: [] }]
paths:
  /orders/{orderId}/items/{line}:
    parameters:
      - { name: orderId, in: path, required: true, schema: { type: string, pattern: "^O-[0-9]{6}$" }, description: "The order. It is on the receipt." }
      - { name: line, in: path, required: true, schema: { type: integer, minimum: 1 } }
      - { name: session, in: cookie, schema: { type: string } }
      - { name: dryRun, in: query, schema: { type: boolean } }
      - { name: on, in: query, required: true, schema: { type: string, format: date } }
      - { name: X-Api-Version, in: header, required: true, schema: { type: string, enum: ["2"] } }
    delete:
      operationId: removeItem
      summary: Remove an item {now}.
      responses: { "204": { description: gone }, "404": { description: "No such item" } }
    patch:
      operationId: changeItem
      parameters:
        - { name: Idempotency-Key, in: header, required: true, schema: { type: string } }
      requestBody: { $ref: "#/components/requestBodies/Change" }
      responses:
        "200": { description: ok, content: { application/json: { schema: { $ref: "#/components/schemas/Answer" } } } }
  /files:
    post:
      operationId: upload
      requestBody: { content: { application/octet-stream: { schema: { type: string, format: binary } } } }
      responses: { "201": { description: ok } }
  /trees:
    get: { operationId: readTree, responses: {} }
    post:
      operationId: plant
      requestBody: { content: { application/json: { schema: { $ref: "#/components/schemas/Tree" } } } }
      responses: {}
  /lost:
    post:
      operationId: lose
      requestBody: { content: { application/json: { schema: { $ref: "other.yaml#/X" } } } }
      responses: {}
components:
  requestBodies:
    Change:
      content:
        application/json:
          schema:
            allOf:
              - { $ref: "#/components/schemas/Base" }
              - type: object
                required: [count, price, gift, note, tags, contact, kind, either, due]
                properties:
                  count: { type: integer, maximum: 9, exclusiveMinimum: 0 }
                  price: { type: number, minimum: 0.5, maximum: 99 }
                  gift: { type: boolean }
                  note: { type: [string, "null"], maxLength: 80, description: "What should we write on it?" }
                  tags: { type: array, items: { type: string } }
                  contact: { type: object, required: [email, id], properties: { email: { type: string, format: email }, id: { type: string, format: uuid }, fax: { type: string } } }
                  kind: { const: change }
                  either: { oneOf: [{ type: string }, { type: integer }] }
                  due: { type: string, format: date-time }
  schemas:
    Base: { type: object, required: [colour], properties: { colour: { type: string, enum: [dark_red, blue] } } }
    Answer: { type: object, properties: { ok: { type: boolean }, data: { type: object, properties: { changeId: { type: string } } } } }
    Tree: { type: object, required: [child], properties: { child: { $ref: "#/components/schemas/Tree" } } }
"##;

fn shop() -> Document {
    Document::parse(Path::new("shop.yaml"), SHOP).unwrap()
}

/// Whether the whole of the bundle's checks take it, once its intent exists.
fn check(name: &str, text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let example = [(format!("please {}", name.replace('_', " ")), Some(name.to_owned()))];
    let bundle = dir.path().join("b");
    bundle::scaffold(&bundle, "b", &[], &example, &std::collections::BTreeMap::new()).unwrap();
    std::fs::create_dir(bundle.join("workflows")).unwrap();
    std::fs::write(bundle.join("workflows/w.toml"), text).unwrap();
    let reader = bundle::Reader::open(&bundle).unwrap();
    bundle::check(&reader).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    workflow::check(&reader).unwrap_or_else(|error| panic!("{error}\n{text}"));
}

#[test]
fn what_fits_becomes_a_workflow_and_what_does_not_is_said() {
    let (name, text, notes) = draft(&shop(), "changeItem").unwrap();
    check(&name, &text);
    let made: bundle::Workflow = toml::from_str(&text).unwrap();
    let request = &made.request;
    assert_eq!(
        (name.as_str(), made.effect, made.risk),
        ("change_item", bundle::Effect::Idempotent, bundle::Risk::Medium)
    );
    assert_eq!(
        (request.target.as_str(), request.path.as_str()),
        ("eu_shop_example", "/orders/{order_id}/items/{line}")
    );
    assert_eq!(request.query.get("on").map(String::as_str), Some("{{ on }}"));
    assert_eq!(request.headers.get("X-Api-Version").map(String::as_str), Some("2"));
    assert_eq!(request.unquoted, ["count", "gift", "price"]);
    let body = serde_json::json!({
        "colour": "{{ colour }}", "count": "{{ count }}", "price": "{{ price }}", "gift": "{{ gift }}",
        "note": "{{ note }}", "contact": { "email": "{{ contact_email }}", "id": "{{ contact_id }}" },
        "kind": "change", "due": "{{ due }}T00:00:00Z",
    });
    assert_eq!(serde_json::Value::Object(request.body.clone()), body);
    assert_eq!(made.response.reference, "/data/changeId");
    let limits: Vec<&str> = made.preconditions.iter().map(|one| one.when.as_str()).collect();
    assert_eq!(
        limits,
        ["int(slots.line) >= 1", "int(slots.count) <= 9", "int(slots.count) > 0", "size(slots.note) <= 80"]
    );
    let prompts: Vec<&str> = made.slots.iter().map(|slot| slot.prompt.as_str()).collect();
    assert!(
        prompts.contains(&"What is the order id? (The order)")
            && prompts.contains(&"What should we write on it?")
    );
    let change = "#/components/requestBodies/Change/content/application~1json/schema/allOf/1/properties";
    for expected in [
        format!("{change}/tags: array is not mapped"),
        format!("{change}/tags: is required: add it by hand"),
        format!("{change}/either: oneOf is not mapped"),
        format!("{change}/contact/properties/fax: optional, left out"),
        "cookie session: a cookie is not mapped".to_owned(),
        "query dryRun: optional, left out".to_owned(),
        "demands oauth".to_owned(),
    ] {
        assert!(notes.0.iter().any(|note| note.contains(&expected)), "{expected} is not in {:#?}", notes.0);
        assert!(text.contains(&expected), "{expected} is no comment");
    }
}

#[test]
fn methods_decide_on_risk_and_effect_and_other_bodies_are_named() {
    let (name, text, notes) = draft(&shop(), "delete /orders/{orderId}/items/{line}").unwrap();
    check(&name, &text);
    let made: bundle::Workflow = toml::from_str(&text).unwrap();
    assert_eq!((made.risk, made.effect), (bundle::Risk::High, bundle::Effect::Idempotent));
    assert_eq!(made.title, "Remove an item now");
    assert!(notes.0.iter().any(|note| note.contains("404 No such item")), "{:?}", notes.0);
    let (name, text, notes) = draft(&shop(), "upload").unwrap();
    check(&name, &text);
    let made: bundle::Workflow = toml::from_str(&text).unwrap();
    assert_eq!((made.risk, made.effect), (bundle::Risk::Medium, bundle::Effect::NonIdempotent));
    assert!(notes.0.iter().any(|note| note.contains("a body of [application/octet-stream] is not mapped")));
}

#[test]
fn a_document_that_cannot_be_used_is_refused_with_its_place() {
    for (id, expected) in [
        (
            "plant",
            "shop.yaml: #/components/schemas/Tree/properties/child: refers to \"#/components/schemas/Tree\"",
        ),
        (
            "lose",
            "shop.yaml: #/paths/~1lost/post/requestBody/content/application~1json/schema: refers to \"other.yaml#/X\"",
        ),
        ("readTree", "shop.yaml: #/paths/~1trees/get: only reads"),
        (
            "nothing",
            "shop.yaml: #/paths: no operation \"nothing\", such as [upload, lose, removeItem, changeItem",
        ),
    ] {
        let Err(error) = draft(&shop(), id) else { panic!("{id} is taken") };
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let old = r#"{"swagger": "2.0"}"#;
    let Err(error) = Document::parse(Path::new("old.json"), old) else { panic!("2.0 is taken") };
    assert_eq!(error.to_string(), "old.json: #/openapi: is \"\", allowed 3.0 and 3.1");
    let json = r#"{"openapi": "3.0.3", "paths": {"/a": {"post": {"responses": {}}}}}"#;
    let document = Document::parse(Path::new("a.json"), json).unwrap();
    let (name, text, _) = draft(&document, "POST /a").unwrap();
    check(&name, &text);
}
