//! Printed Bicep and ARM templates, read back: the first by a grammar of Bicep, the second by Azure Resource Manager's
//! rules for literals, expressions, names and dependencies. Neither by Azure itself (docs/decisions.md).

use std::{collections::BTreeSet, fs};

use azfed_emulator::{JobOverrides, Platform};
use serde_json::Value;
use tree_sitter::{Node, Parser};

use crate::harness::Job;

/// Descriptions with what could end a string, begin an expression or be taken for one.
const HOSTILE: [&[&str]; 3] = [
    &[
        "github",
        "--repo",
        "contoso/infra",
        "--immutable",
        "100/200",
        "--environment",
        "it's \"${x}\" %{y}: \\",
        "--environment",
        "[concat('a', 'b')]",
        "--environment",
        "'''\\n\\u{41}",
        "--branch",
        "release/1.0",
        "--pull-request",
        "--identity",
        "deploy",
        "--resource-group",
        "ids",
    ],
    &["gitlab", "--project", "contoso/infra", "--branch", "main", "--tag", "v'1"],
    &[
        "github",
        "--repo",
        "contoso/infra",
        "--immutable",
        "100/200",
        "--branch",
        "a*",
        "--tag",
        "b",
        "--flexible",
    ],
];

fn printed(arguments: &[&str], form: &str) -> String {
    let job = Job::with(Platform::Github, &JobOverrides::default());
    let map = r#"{ "identities": [
        { "environment": "prod", "client_id": "11111111-1111-4111-8111-111111111111", "identity": "a", "resource_group": "one" },
        { "tag": "v1", "client_id": "11111111-1111-4111-8111-111111111111", "identity": "a", "resource_group": "one" },
        { "branch": "main", "client_id": "77777777-7777-4777-8777-777777777777", "identity": "a", "resource_group": "two" },
        { "branch": "x", "client_id": "88888888-8888-4888-8888-888888888888", "identity": "b", "resource_group": "one" } ] }"#;
    fs::write(job.path("map.json"), map).unwrap();
    let outcome = job.run(&[&["trust"], arguments, &["--as", form]].concat());
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    outcome.stdout
}

/// What a credential must be, however it is written: name, issuer, subject or expression, audience.
type Meant = (String, String, String, String);

fn meant(one: &Value, name: &str) -> Meant {
    let text = |pointer: &str| one.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
    let subject = text("/subject").or_else(|| text("/claimsMatchingExpression/value")).unwrap();
    (name.to_owned(), text("/issuer").unwrap(), subject, text("/audiences/0").unwrap())
}

fn listed(arguments: &[&str]) -> BTreeSet<Meant> {
    let list: Vec<Value> = serde_json::from_str(&printed(arguments, "json")).unwrap();
    let found: BTreeSet<Meant> = list.iter().map(|one| meant(one, one["name"].as_str().unwrap())).collect();
    assert_eq!(found.len(), list.len());
    found
}

/// A string of Bicep (Microsoft Learn "Data types in Bicep"): the escapes, and no interpolation.
fn bicep_string(source: &str) -> String {
    let inner = source.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap();
    let (mut value, mut rest) = (String::new(), inner.chars());
    while let Some(character) = rest.next() {
        assert!(character != '\'', "a quote inside: {source}");
        match character {
            '\\' => match rest.next().unwrap() {
                'n' => value.push('\n'),
                same @ ('\\' | '\'' | '$') => value.push(same),
                other => panic!("no escape: {other} in {source}"),
            },
            '$' => {
                assert!(!rest.as_str().starts_with('{'), "an interpolation: {source}");
                value.push('$');
            }
            other => value.push(other),
        }
    }
    value
}

fn below<'tree>(node: Node<'tree>, kind: &str, found: &mut Vec<Node<'tree>>) {
    if node.kind() == kind {
        found.push(node);
    }
    for number in 0..u32::try_from(node.child_count()).unwrap() {
        below(node.child(number).unwrap(), kind, found);
    }
}

#[test]
fn bicep_reads_it_as_it_is_meant() {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_bicep::LANGUAGE.into()).unwrap();
    assert!(parser.parse("resource x 'a", None).unwrap().root_node().has_error(), "it finds mistakes");
    for arguments in HOSTILE {
        let source = printed(arguments, "bicep");
        let tree = parser.parse(&source, None).unwrap();
        let root = tree.root_node();
        assert!(!root.has_error(), "{source}\n{}", root.to_sexp());
        let mut interpolations = Vec::new();
        below(root, "interpolation", &mut interpolations);
        assert!(interpolations.is_empty(), "{source}");
        let mut resources = Vec::new();
        below(root, "resource_declaration", &mut resources);
        let text = |node: &Node<'_>| source[node.byte_range()].to_owned();
        let mut found = BTreeSet::new();
        for (number, resource) in resources.iter().enumerate() {
            let body = text(resource);
            if body.contains(" existing = ") {
                continue;
            }
            let value = |name: &str| {
                let line = body.lines().map(str::trim).find_map(|line| line.strip_prefix(name));
                line.map(|line| bicep_string(line.trim()))
            };
            let audience =
                body.lines().skip_while(|line| !line.contains("audiences: [")).nth(1).unwrap().trim();
            let subject = value("subject: ").or_else(|| value("value: ")).unwrap();
            found.insert((
                value("name: ").unwrap(),
                value("issuer: ").unwrap(),
                subject,
                bicep_string(audience),
            ));
            // each after the one before
            let label = |resource: &Node<'_>| text(resource).split(' ').nth(1).unwrap().to_owned();
            let before = label(&resources[number - 1]);
            let depends =
                body.split("dependsOn: [").nth(1).map(|rest| rest.split(']').next().unwrap().trim());
            assert!(depends == Some(before.as_str()) || !before.starts_with("credential"), "{body}");
        }
        assert_eq!(found, listed(arguments), "{source}");
    }
}

/// A string of a template: a literal, or an expression without its brackets (Microsoft Learn "Syntax and expressions in
/// Azure Resource Manager templates").
fn literal(value: &str) -> Result<String, String> {
    if value.starts_with("[[") {
        return Ok(value[1..].to_owned());
    }
    match value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(expression) => Err(expression.to_owned()),
        None => Ok(value.to_owned()),
    }
}

/// The arguments of `resourceId(…)`: strings in single quotes, doubled inside.
fn resource_id(expression: &str) -> Vec<String> {
    let inner = expression.strip_prefix("resourceId(").and_then(|rest| rest.strip_suffix(')')).unwrap();
    let (mut arguments, mut rest) = (Vec::new(), inner);
    loop {
        rest = rest.strip_prefix('\'').unwrap();
        let mut argument = String::new();
        loop {
            let end = rest.find('\'').unwrap();
            argument.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('\'') {
                Some(more) => {
                    argument.push('\'');
                    rest = more;
                }
                None => break,
            }
        }
        arguments.push(argument);
        match rest.strip_prefix(", ") {
            Some(more) => rest = more,
            None => break,
        }
    }
    assert_eq!(rest, "", "{expression}");
    arguments
}

fn plain(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(literal(text).unwrap()),
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

/// What a template creates, each with its resource group.
fn created(template: &Value, group: &str, is_inner: bool) -> Vec<(String, Meant)> {
    const TYPE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials";
    let keys: BTreeSet<&str> = template.as_object().unwrap().keys().map(String::as_str).collect();
    let mut known = BTreeSet::from(["$schema", "contentVersion", "resources"]);
    known.extend((!is_inner).then_some("metadata"));
    assert_eq!(keys, known);
    let schema = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#";
    assert_eq!((&template["$schema"], &template["contentVersion"]), (&schema.into(), &"1.0.0.0".into()));
    let (mut found, mut before): (Vec<(String, Meant)>, Option<Vec<String>>) = (Vec::new(), None);
    for resource in template["resources"].as_array().unwrap() {
        if resource["type"] == "Microsoft.Resources/deployments" {
            assert!(!is_inner);
            let properties = &resource["properties"];
            assert_eq!(
                (&properties["mode"], &properties["expressionEvaluationOptions"]["scope"]),
                (&"Incremental".into(), &"inner".into())
            );
            let name = resource["name"].as_str().unwrap();
            assert!(
                name.len() <= 64
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.()".contains(&byte))
            );
            let group = literal(resource["resourceGroup"].as_str().unwrap()).unwrap();
            found.extend(created(&properties["template"], &group, true));
            continue;
        }
        let keys: Vec<&str> = resource.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["apiVersion", "dependsOn", "name", "properties", "type"]);
        assert_eq!(resource["type"], TYPE);
        let properties = plain(&resource["properties"]);
        let version = if properties.get("subject").is_some() { "2023-01-31" } else { "2025-01-31-preview" };
        assert_eq!(resource["apiVersion"], version);
        let name = literal(resource["name"].as_str().unwrap()).unwrap();
        // as many segments as the type has below its provider
        let segments: Vec<&str> = name.split('/').collect();
        let [identity, credential] = segments.as_slice() else { panic!("{name}") };
        let depends: Vec<Vec<String>> = resource["dependsOn"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| resource_id(&literal(one.as_str().unwrap()).unwrap_err()))
            .collect();
        assert_eq!(
            depends,
            before.into_iter().collect::<Vec<_>>(),
            "each after the one before, which is there"
        );
        before = Some(vec![TYPE.to_owned(), (*identity).to_owned(), (*credential).to_owned()]);
        found.push((format!("{group}/{identity}"), meant(&properties, credential)));
    }
    found
}

#[test]
fn a_template_is_read_as_it_is_meant() {
    for arguments in HOSTILE {
        let template: Value = serde_json::from_str(&printed(arguments, "arm")).unwrap();
        let found = created(&template, "", false);
        assert_eq!(found.iter().map(|(_, one)| one.clone()).collect::<BTreeSet<_>>(), listed(arguments));
    }
    let map = ["github", "--repo", "contoso/infra", "--immutable", "1/2", "--identity-map", "map.json"];
    let template: Value = serde_json::from_str(&printed(&map, "arm")).unwrap();
    let found = created(&template, "", false);
    let list: Vec<Value> = serde_json::from_str(&printed(&map, "json")).unwrap();
    let mut wanted: Vec<(String, Meant)> = list
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap();
            (format!("{}/{}", text("resourceGroup"), text("identity")), meant(one, text("name")))
        })
        .collect();
    let mut found = found;
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted, "each on the identity and in the group that it is for");
}
