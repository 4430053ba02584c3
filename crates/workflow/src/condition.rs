//! Conditions in the Common Expression Language: compiled, tried once with examples, evaluated.
//!
//! An expression cannot take long: it is short, walks over lists only with `all`, `exists` and `exists_one` and never
//! inside one another, and its regular expressions are literals that compile within a limit.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::{Context, Env, ExecutionError, Program, Value};

/// Longest expression.
pub const MAX_BYTES: usize = 1024;
/// Largest compiled form of a regular expression.
const MAX_REGEX_BYTES: usize = 64 * 1024;
static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// Why an expression cannot be used, or why a value cannot be had from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// The values an expression may use.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Values with fields, by name; the fields are all there are, unless the record is open.
    pub records: HashMap<&'static str, Record>,
    /// Values by name.
    pub values: HashMap<&'static str, Value>,
    /// Names of values that may be anything: what depends on them is not tried.
    pub any: &'static [&'static str],
}

/// Values by the name of their field.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Those that are known.
    pub fields: HashMap<String, Value>,
    /// What other fields may hold, as an example; `None` where there are none.
    pub open: Option<Value>,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Condition {
    program: Program,
    /// Fields it uses of records, such as ("slots", "amount").
    fields: BTreeSet<(String, String)>,
}

impl Condition {
    /// Compiles an expression over values such as the examples.
    ///
    /// # Errors
    /// It is too long, does not parse, uses a name that does not exist, or its types do not fit.
    pub fn compile(source: &str, examples: &Facts) -> Result<Self, Error> {
        if source.len() > MAX_BYTES {
            return Err(Error(format!("has {} bytes, allowed up to {MAX_BYTES}", source.len())));
        }
        let program = ENVIRONMENT.compile(source).map_err(|errors| {
            let first = errors.errors.first();
            // A parser that gave up says so in its debug form.
            let told = |message: &str| {
                if message.contains("Recursion limit") {
                    "is nested too deeply".to_owned()
                } else {
                    message.to_owned()
                }
            };
            Error(first.map_or_else(
                || "does not parse".to_owned(),
                |error| format!("{} at column {}", told(&error.msg), error.pos.1),
            ))
        })?;
        let mut names = Names { facts: examples, fields: BTreeSet::new(), own: Vec::new() };
        names.visit(program.expression())?;
        let fields = names.fields;
        let mut facts = examples.clone();
        for (record, field) in &fields {
            let Some(Record { fields, open }) = facts.records.get_mut(record.as_str()) else { continue };
            if let Some(example) = open {
                fields.entry(field.clone()).or_insert_with(|| example.clone());
            }
        }
        Trial { context: context(&facts), any: facts.any }.run(program.expression())?;
        Ok(Self { program, fields })
    }

    /// The fields it uses of a record.
    pub(crate) fn fields<'c>(&'c self, record: &'c str) -> impl Iterator<Item = &'c str> {
        self.fields.iter().filter(move |field| field.0 == record).map(|field| field.1.as_str())
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// A value it needs is missing, or of the wrong type.
    pub fn holds(&self, facts: &Facts) -> Result<bool, Error> {
        match self.program.execute(&context(facts)) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(no_bool(&other)),
            // The text of other errors would show values of the customer.
            Err(ExecutionError::NoSuchKey(key)) => Err(Error(format!("there is no {key}"))),
            Err(ExecutionError::NoSuchOverload(error)) => Err(Error(error.to_string())),
            Err(ExecutionError::FunctionError { function, .. }) => Err(Error(format!("{function} failed"))),
            Err(_) => Err(Error("a value does not fit".to_owned())),
        }
    }
}

fn no_bool(value: &Value) -> Error {
    Error(format!("is {}, allowed true or false", value.type_of()))
}

fn context(facts: &Facts) -> Context<'static, 'static> {
    let mut context = Context::with_env(ENVIRONMENT.clone());
    for (name, record) in &facts.records {
        context.add_variable_from_value(*name, record.fields.clone());
    }
    for (name, value) in &facts.values {
        context.add_variable_from_value(*name, value.clone());
    }
    context
}

/// Walks through an expression, checks its names and keeps those of fields.
struct Names<'f> {
    facts: &'f Facts,
    fields: BTreeSet<(String, String)>,
    /// Variables of the macro around.
    own: Vec<String>,
}

impl Names<'_> {
    fn visit(&mut self, node: &IdedExpr) -> Result<(), Error> {
        match &node.expr {
            Expr::Ident(name) => return self.check_name(name),
            Expr::Select(select) => {
                if let Expr::Ident(record) = &select.operand.expr
                    && !self.own.contains(record)
                    && let Some(known) = self.facts.records.get(record.as_str())
                {
                    return self.check_field(record, &select.field, known);
                }
            }
            Expr::Call(call) => check_function(call)?,
            Expr::Struct(_) => return Err(Error("messages are not allowed".to_owned())),
            Expr::Comprehension(each) => {
                if matches!(each.accu_init.expr, Expr::List(_)) || !self.own.is_empty() {
                    let allowed = "allowed all, exists and exists_one, not inside one another";
                    return Err(Error(format!("map and filter are too costly, {allowed}")));
                }
                self.visit(&each.iter_range)?;
                self.own = vec![each.iter_var.clone(), each.accu_var.clone()];
                let parts = [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result];
                let checked = parts.into_iter().try_for_each(|part| self.visit(part));
                self.own.clear();
                return checked;
            }
            _ => (),
        }
        children(node).into_iter().try_for_each(|child| self.visit(child))
    }

    fn check_name(&self, name: &str) -> Result<(), Error> {
        let facts = self.facts;
        if self.own.iter().any(|own| own == name)
            || facts.values.contains_key(name)
            || facts.any.contains(&name)
        {
            return Ok(());
        }
        if facts.records.contains_key(name) {
            return Err(Error(format!("{name} is used as a whole, allowed {name}.NAME")));
        }
        let mut allowed: Vec<String> = facts.records.keys().map(|record| format!("{record}.NAME")).collect();
        allowed.extend(facts.values.keys().chain(facts.any).map(ToString::to_string));
        allowed.sort();
        allowed.dedup();
        Err(Error(format!("{name} does not exist, allowed [{}]", allowed.join(", "))))
    }

    fn check_field(&mut self, record: &str, field: &str, known: &Record) -> Result<(), Error> {
        if known.open.is_none() && !known.fields.contains_key(field) {
            let mut allowed: Vec<&str> = known.fields.keys().map(String::as_str).collect();
            allowed.sort_unstable();
            return Err(Error(format!("{record}.{field} does not exist, allowed [{}]", allowed.join(", "))));
        }
        self.fields.insert((record.to_owned(), field.to_owned()));
        Ok(())
    }
}

/// Whether there is such a function at all shows with any arguments, also where the true ones are not known yet.
fn check_function(call: &CallExpr) -> Result<(), Error> {
    if call.func_name == "matches" {
        return check_pattern(call);
    }
    let nothing = || IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Null) };
    let target = call.target.as_ref().map(|_| Box::new(nothing()));
    let args = call.args.iter().map(|_| nothing()).collect();
    let probe = Expr::Call(CallExpr { func_name: call.func_name.clone(), target, args });
    match Value::resolve(&IdedExpr { id: 0, expr: probe }, &context(&Facts::default())) {
        Err(ExecutionError::UndeclaredReference(name)) => Err(Error(format!("{name} is no function"))),
        _ => Ok(()),
    }
}

/// A pattern is compiled anew with every evaluation, and one that comes from a value could be made to be slow.
fn check_pattern(call: &CallExpr) -> Result<(), Error> {
    let Some(Expr::Literal(LiteralValue::String(pattern))) = call.args.last().map(|last| &last.expr) else {
        return Err(Error("matches takes a pattern in quotes, not one from a value".to_owned()));
    };
    let compiled = regex::RegexBuilder::new(pattern.inner()).size_limit(MAX_REGEX_BYTES).build();
    compiled.map(|_| ()).map_err(|error| {
        let error = error.to_string();
        Error(format!("the pattern of matches is wrong: {}", error.lines().last().unwrap_or_default()))
    })
}

/// The parts of an expression.
fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    match &node.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Comprehension(each) => vec![&each.iter_range],
        _ => Vec::new(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}

/// Evaluates every part of an expression with the examples: a wrong type shows wherever it stands, also where
/// another part would decide before it.
struct Trial {
    context: Context<'static, 'static>,
    any: &'static [&'static str],
}

impl Trial {
    fn run(&self, whole: &IdedExpr) -> Result<(), Error> {
        match self.part(whole)? {
            Some(value) if !matches!(value, Value::Bool(_)) => Err(no_bool(&value)),
            _ => Ok(()),
        }
    }

    /// The value of a part; `None` when it depends on what the examples do not show.
    fn part(&self, node: &IdedExpr) -> Result<Option<Value>, Error> {
        if matches!(&node.expr, Expr::Ident(name) if self.any.contains(&name.as_str())) {
            return Ok(None);
        }
        // All of them, so that every part is tried.
        let parts = children(node).into_iter().map(|part| self.part(part)).collect::<Result<Vec<_>, _>>()?;
        let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        if let (Expr::Call(call), [left, right]) = (&node.expr, parts.as_slice()) {
            check_equality(call, left, right)?;
        }
        match Value::resolve(node, &self.context) {
            Ok(value) => Ok(Some(value)),
            // These depend on the value, not on its type.
            Err(
                ExecutionError::FunctionError { .. }
                | ExecutionError::DivisionByZero(_)
                | ExecutionError::RemainderByZero(_)
                | ExecutionError::Overflow(..)
                | ExecutionError::IndexOutOfBounds(_),
            ) => Ok(None),
            Err(ExecutionError::NoSuchKey(key)) => Err(Error(format!("there is no {key}"))),
            Err(error) => Err(Error(error.to_string())),
        }
    }
}

/// Values of two types are never equal, which nobody means.
fn check_equality(call: &CallExpr, left: &Value, right: &Value) -> Result<(), Error> {
    let compares = [operators::EQUALS, operators::NOT_EQUALS].contains(&call.func_name.as_str());
    let number = |value: &Value| matches!(value, Value::Int(_) | Value::UInt(_) | Value::Float(_));
    let (one, other) = (left.type_of().to_string(), right.type_of().to_string());
    if compares && one != other && !(number(left) && number(right)) {
        return Err(Error(format!("a {one} is never equal to a {other}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Facts {
        let record = |fields: &[(&str, Value)], open: Option<Value>| Record {
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            open,
        };
        let slots = [
            ("amount", Value::Float(1.0)),
            ("date", Value::from("2026-01-31")),
            ("reason", Value::from("1")),
        ];
        Facts {
            records: HashMap::from([
                ("slots", record(&slots, None)),
                ("customer", record(&[], Some(Value::from("1")))),
            ]),
            values: HashMap::from([("now", Value::from("2026-02-01T00:00:00Z"))]),
            any: &["body"],
        }
    }

    #[test]
    fn an_expression_that_cannot_work_is_refused_before_it_is_used() {
        let mut wrong = Vec::new();
        for (source, error) in [
            ("slots.amount <", "Syntax error"),
            ("slots.amont < 5.0", "slots.amont does not exist, allowed [amount, date, reason]"),
            ("has(slots.amont)", "slots.amont does not exist"),
            ("slot.amount < 5.0", "slot does not exist, allowed [body, customer.NAME, now, slots.NAME]"),
            ("size(slots) > 1", "slots is used as a whole, allowed slots.NAME"),
            ("slots['amount'] > 1.0", "slots is used as a whole"),
            ("slots.amount + 1.0", "is float, allowed true or false"),
            // The other side decides: the wrong type shows all the same.
            ("true || slots.reason > 5", "found no matching overload for '_>_'"),
            ("customer.age >= 18", "found no matching overload for '_>=_'"),
            ("customer.age == 18", "a string is never equal to a int"),
            ("slots.reason.startsWith(5)", "found no matching overload for 'startsWith'"),
            ("slots.reason.beginsWith('a')", "beginsWith is no function"),
            ("body.x == frobnicate(body.y)", "frobnicate is no function"),
            ("customer.tier.matches(slots.reason)", "matches takes a pattern in quotes"),
            ("matches(customer.tier, '(a{1000}){1000}')", "the pattern of matches is wrong"),
            ("[1, 2].map(x, x).size() > 1", "map and filter are too costly"),
            ("body.all(x, body.all(y, x == y))", "map and filter are too costly"),
            (&format!("slots.reason == '{}'", "x".repeat(MAX_BYTES)), "has 1042 bytes, allowed up to 1024"),
            (&format!("{}true{}", "(".repeat(400), ")".repeat(400)), "is nested too deeply"),
        ] {
            let refused = Condition::compile(source, &examples()).map(|_| ());
            let refused = refused.map_or_else(|error| error.to_string(), |()| "taken".to_owned());
            if !refused.starts_with(error) {
                wrong.push(format!("{source}: {refused}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn what_cannot_be_evaluated_is_neither_true_nor_false() {
        let mut facts = examples();
        let customer = [("tier", "gold"), ("limit", "250.5"), ("word", "many")];
        facts.records.get_mut("customer").unwrap().fields =
            customer.map(|(name, value)| (name.to_owned(), Value::from(value))).into();
        facts.records.get_mut("slots").unwrap().fields.remove("reason");
        facts.values.insert("body", Value::from(HashMap::from([("ok", vec![Value::from(true)])])));
        for (source, wanted) in [
            ("slots.amount <= double(customer.limit)", Some(true)),
            ("slots.amount <= double(customer.word)", None),
            ("has(slots.reason) && slots.reason == 'x'", Some(false)),
            ("slots.reason == 'x'", None),
            ("!has(customer.tier) || customer.tier in ['gold', 'silver']", Some(true)),
            ("customer.plan == 'a'", None),
            ("timestamp(now) - timestamp(slots.date + 'T00:00:00Z') <= duration('24h')", Some(true)),
            ("slots.date < '2026-01-31'", Some(false)),
            ("customer.tier.matches('^g[a-z]+$')", Some(true)),
            ("body.ok.exists(one, one)", Some(true)),
            ("body.ok.exists(one, one > 5)", None),
            ("body.status == 'x'", None),
            ("body.ok", None),
        ] {
            let condition = Condition::compile(source, &examples());
            let condition = condition.unwrap_or_else(|error| panic!("{source}: {error}"));
            assert_eq!(condition.holds(&facts).ok(), wanted, "{source}");
        }
        let error = Condition::compile("double(customer.word) > 1.0", &examples()).unwrap().holds(&facts);
        assert_eq!(error.unwrap_err().to_string(), "double failed", "no value of the customer");
    }
}
