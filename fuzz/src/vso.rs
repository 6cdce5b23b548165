//! Azure DevOps' `##vso` commands, and the masks of both runners: what the runner reads is what was meant.
//!
//! The input: values, with zero bytes between them.

use azfed::{
    export::Variable,
    secret::Secret,
    sink, text,
    ui::{self, Runner},
};

use super::check;

const NAMES: [&str; 4] = ["AZURE_CLIENT_ID", "ARM_TENANT_ID", "AZURE_CONFIG_DIR", "IDENTITY_HEADER"];

/// Some values as variables, each as a secret, all as a message.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let variables: Vec<Variable> =
        NAMES.into_iter().zip(text.split('\0')).map(|(name, value)| Variable::plain(name, value)).collect();
    let written = sink::azure_devops(&variables);
    let read: Vec<Command> = lines(&written).map(|line| agent(line).expect("a command")).collect();
    assert_eq!(read.len(), variables.len(), "{written:?}");
    for (command, variable) in read.iter().zip(&variables) {
        assert_eq!(command.name, "task.setvariable");
        assert_eq!(command.properties, [("variable".to_owned(), variable.name.to_owned())]);
        assert_eq!(command.data, variable.value.text());
    }
    for value in text.split('\0') {
        let secret = Secret::new(value.to_owned());
        assert!(Runner::Silent.mask(&[&secret]).is_none());
        let written = Runner::AzureDevOps.mask(&[&secret]).expect("a command");
        let command = agent(only(written.expose())).expect("a command");
        assert_eq!((command.name.as_str(), command.data.as_str()), ("task.setsecret", value));
        assert!(command.properties.is_empty());
        let written = Runner::GitHub.mask(&[&secret]).expect("a command");
        assert_eq!(runner(only(written.expose())), Some(("add-mask".to_owned(), value.to_owned())));
    }
    // what is said about it is inert, and saying it twice changes nothing
    let line = text::one_line(&text);
    check::inert(&line);
    assert!(agent(&line).is_none() && runner(&line).is_none() && !line.contains('\n'));
    assert!(text::inert(&line) == line || line.len() >= 2000, "{line:?}");
    let data = ui::azure_devops_data(&text);
    assert!(!data.contains(['\r', '\n', ';', ']']));
}

/// What .NET takes for lines.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\r', '\n']).filter(|line| !line.is_empty())
}

fn only(text: &str) -> &str {
    let mut lines = lines(text);
    let line = lines.next().expect("a line");
    assert!(lines.next().is_none(), "{text:?}");
    line
}

#[derive(Debug)]
struct Command {
    name: String,
    properties: Vec<(String, String)>,
    data: String,
}

/// The agent's reader, from its documents: the first `##vso[` of a line, up to `]`; then the data.
fn agent(line: &str) -> Option<Command> {
    let (_, rest) = line.split_once("##vso[")?;
    let (head, data) = rest.split_once(']')?;
    let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
    let unescaped = |text: &str| {
        [("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%AZP25", "%")]
            .into_iter()
            .fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
    };
    let properties = properties.split(';').filter_map(|pair| pair.split_once('='));
    Some(Command {
        name: name.to_owned(),
        properties: properties.map(|(name, value)| (name.to_owned(), unescaped(value))).collect(),
        data: unescaped(data),
    })
}

/// GitHub's reader of commands: `::name properties::data`, at the start of a line.
fn runner(line: &str) -> Option<(String, String)> {
    let (head, data) = line.trim_start().strip_prefix("::")?.split_once("::")?;
    let data = [("%0D", "\r"), ("%0A", "\n"), ("%25", "%")]
        .into_iter()
        .fold(data.to_owned(), |text, (escape, character)| text.replace(escape, character));
    let name = head.split_once(' ').map_or(head, |(name, _)| name);
    Some((name.to_owned(), data))
}
