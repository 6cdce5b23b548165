//! `azfed trust`: whatever a job is described by, what is printed is what was meant, in each tool's own language.
//!
//! The input: a byte that chooses the platform, one of switches; then texts with zero bytes between them: identity,
//! resource group, name, audience, and what the platform has. With the last switch, the first of these is an identity
//! map.

use azfed::{
    cli::{
        AzureDevopsTrust, Form, GithubTrust, GitlabTrust, KubernetesTrust, TrustOptions,
        elsewhere::{
            AwsTrust, CodefreshTrust, ForgejoTrust, HcpTerraformTrust, SemaphoreTrust, SpaceliftTrust,
        },
    },
    error::Error,
    identity_map::IdentityMap,
    nearest,
    trust::{Credential, Trust},
};
use serde_json::Value;
use uuid::Uuid;

use super::{check, lexers};

const ID: Uuid = Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_1111);
const FORMS: [Form; 7] =
    [Form::Az, Form::AzApp, Form::Terraform, Form::TerraformAzurerm4, Form::Bicep, Form::Arm, Form::Json];

/// One description.
pub fn run(data: &[u8]) {
    let [kind, switches, text @ ..] = data else { return };
    let text = String::from_utf8_lossy(text);
    let mut texts = text.split('\0').map(ToOwned::to_owned);
    let switch = |number: u8| switches & (1 << number) != 0;
    let mut next = || texts.next().filter(|text| !text.is_empty());
    let options = TrustOptions {
        form: Form::Az,
        identity: next(),
        resource_group: next(),
        client_id: if switches & 0x10 == 0 { None } else { ID.to_string().parse().ok() },
        name: next(),
        cloud: None,
        audience: next().and_then(|audience| audience.parse().ok()),
    };
    let first = next().unwrap_or_default();
    let map = if switch(7) { IdentityMap::read(&first).ok() } else { None };
    let mut texts = texts.chain([String::new(), String::new(), String::new()]);
    let mut next = || texts.next().unwrap_or_default();
    let described = match kind % 11 {
        0 | 1 => {
            let immutable = switch(0).then(|| "1/2".to_owned());
            let described = GithubTrust {
                repo: if switch(7) { "contoso/infra".to_owned() } else { first },
                environments: if switch(1) { vec![next()] } else { Vec::new() },
                branches: if switch(2) { vec![next(), next()] } else { Vec::new() },
                tags: if switch(3) { vec![next()] } else { Vec::new() },
                pull_request: switch(4),
                reusable_workflow: switch(5).then(&mut next),
                flexible: switch(6) && immutable.is_some(),
                immutable,
                issuer: "https://token.actions.githubusercontent.com".to_owned(),
                identity_map: None,
                options: options.clone(),
            };
            Trust::github(&described, map.as_ref(), &options)
        }
        2 => {
            let described = GitlabTrust {
                project: if switch(7) { "contoso/infra".to_owned() } else { first },
                branches: if switch(2) { vec![next(), next()] } else { Vec::new() },
                tags: if switch(3) { vec![next()] } else { Vec::new() },
                ref_protected: switch(4),
                environment_protected: switch(5),
                deployment_tier: switch(0).then(&mut next),
                by_id: switch(6) && switch(5),
                server: if switch(1) { next() } else { "https://gitlab.com".to_owned() },
                identity_map: None,
                flexible: switch(6),
                project_id: switch(6).then_some(3),
                options: options.clone(),
            };
            Trust::gitlab(&described, map.as_ref(), &options)
        }
        3 => {
            let described = AzureDevopsTrust {
                organization_id: (!switch(3)).then_some(ID),
                tenant_id: switch(0).then_some(ID),
                connection_id: switch(0).then_some(ID),
                organization: switch(1).then_some(first),
                project: switch(1).then(&mut next),
                connection: switch(2).then(&mut next),
                options: options.clone(),
            };
            Trust::azure_devops(&described, &options)
        }
        4 => {
            let described = KubernetesTrust {
                issuer: first,
                namespace: next(),
                service_account: next(),
                options: options.clone(),
            };
            Trust::kubernetes(&described, &options)
        }
        5 => Trust::of_claims(&first, &next(), &options),
        6 => Trust::hcp_terraform(&HcpTerraformTrust {
            organization: first,
            project: next(),
            workspaces: vec![next(), next()],
            phases: Vec::new(),
            hostname: if switch(0) { next() } else { "app.terraform.io".to_owned() },
            options,
        }),
        7 => Trust::spacelift(&SpaceliftTrust {
            hostname: first,
            space: next(),
            stack: switch(0).then(&mut next),
            module: switch(1).then(&mut next),
            run_types: Vec::new(),
            options,
        }),
        8 => Trust::semaphore(&SemaphoreTrust {
            organization: first,
            project_id: ID,
            repo: next(),
            branches: vec![next()],
            tags: if switch(0) { vec![next()] } else { Vec::new() },
            server: switch(1).then(&mut next),
            options,
        }),
        9 => Trust::codefresh(&CodefreshTrust {
            account_id: first,
            pipeline_id: next(),
            initiator: switch(0).then(&mut next),
            repo_url: switch(1).then(&mut next),
            user: switch(1).then(&mut next),
            git_ref: switch(1).then(&mut next),
            pull_request_target: switch(2).then(&mut next),
            options,
        }),
        _ if switch(0) => Trust::forgejo(&ForgejoTrust {
            server: first,
            repo: next(),
            immutable: switch(1).then(|| "1/2".to_owned()),
            branches: vec![next()],
            tags: if switch(2) { vec![next()] } else { Vec::new() },
            pull_request: switch(3),
            options,
        }),
        _ => Trust::aws(&AwsTrust { issuer: first, principal: next(), options }),
    };
    match described {
        Ok(trust) => trusted(&trust),
        Err(error) => check::rendered(&Error::Trust(error).render()),
    }
}

fn trusted(trust: &Trust) {
    let credentials = trust.credentials();
    assert!(!credentials.is_empty());
    for (number, credential) in credentials.iter().enumerate() {
        within_azures_rules(credential);
        let is_taken = |other: &Credential| other.name.eq_ignore_ascii_case(&credential.name);
        assert!(!credentials[..number].iter().any(is_taken), "{:?} comes twice", credential.name);
    }
    for form in FORMS {
        let text = match trust.render(form) {
            Ok(text) => text,
            Err(error) => {
                let is_flexible = credentials.iter().any(|credential| credential.expression.is_some());
                let groups = credentials
                    .iter()
                    .any(|one| one.owner.resource_group != credentials[0].owner.resource_group);
                assert!(is_flexible || groups, "{error}");
                check::rendered(&Error::Trust(error).render());
                continue;
            }
        };
        check::inert(&text);
        match form {
            Form::Az => az(&text, credentials),
            Form::AzApp => az_app(&text, credentials),
            Form::Terraform | Form::TerraformAzurerm4 => terraform(&text, credentials),
            Form::Bicep => bicep(&text, credentials),
            Form::Arm => arm(&text, credentials),
            Form::Json => json(&text, credentials),
        }
    }
}

/// Microsoft Learn "Workload identity federation considerations", "Naming rules and restrictions for Azure resources".
fn within_azures_rules(credential: &Credential) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let name = &credential.name;
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    assert!(first && (3..=120).contains(&name.len()) && name.bytes().all(allowed), "{name:?}");
    let allowed = |character: char| character.is_alphanumeric() || "-_.()".contains(character);
    for name in [identity(credential), group(credential)] {
        assert!(!name.is_empty() && !name.starts_with('-') && name.chars().all(allowed), "{name:?}");
    }
    for text in [&credential.issuer, &credential.subject, &credential.audience] {
        assert!(!text.is_empty() && text.chars().count() <= 600);
        assert!(!text.contains(char::is_control) && text.trim() == text, "{text:?}");
    }
    if let Some(expression) = &credential.expression {
        // two comparisons, with a text each: a quote in one of them would be its end
        let texts: Vec<&str> = expression.split('\'').collect();
        let [before, "sub", operator, subject, and, _, eq, id, ""] = texts.as_slice() else {
            panic!("{expression:?}")
        };
        assert_eq!(
            (*before, *subject, *and, *eq),
            ("claims[", credential.subject.as_str(), " and claims[", "] eq ")
        );
        assert!(["] eq ", "] matches "].contains(operator) && id.bytes().all(|byte| byte.is_ascii_digit()));
    } else {
        assert!(
            !credential.subject.contains('*')
                || credential.subject.starts_with("arn:")
                || credential.name.starts_with("azfed-"),
            "{:?}",
            credential.subject
        );
    }
}

/// The identity's name, or what stands for it.
fn identity(credential: &Credential) -> String {
    let client_id = credential.owner.client_id.as_ref();
    let place = || client_id.map_or_else(|| "IDENTITY".to_owned(), |id| format!("IDENTITY-{id}"));
    credential.owner.identity.clone().unwrap_or_else(place)
}

fn group(credential: &Credential) -> String {
    credential.owner.resource_group.clone().unwrap_or_else(|| "GROUP".to_owned())
}

/// Comments, `set -e`, and a command for each credential whose words are what was meant.
fn az(text: &str, credentials: &[Credential]) {
    let commands = text.replace("\\\n", "\\\r").lines().filter_map(command).collect::<Vec<_>>();
    assert_eq!(commands.len(), credentials.len(), "{text}");
    for (words, credential) in commands.iter().zip(credentials) {
        let (identity, group) = (identity(credential), group(credential));
        let mut expected = vec!["az", "identity", "federated-credential", "create"];
        expected.extend(["--identity-name", &identity, "--resource-group", &group]);
        expected.extend(["--name", &credential.name, "--issuer", &credential.issuer]);
        match &credential.expression {
            Some(expression) => expected.extend(["--cme-version", "1", "--cme-value", expression]),
            None => expected.extend(["--subject", &credential.subject]),
        }
        expected.extend(["--audiences", &credential.audience]);
        assert_eq!(words, &expected, "{text}");
    }
}

/// The same for app registrations, whose credentials are JSON in a word.
fn az_app(text: &str, credentials: &[Credential]) {
    let commands = text.replace("\\\n", "\\\r").lines().filter_map(command).collect::<Vec<_>>();
    assert_eq!(commands.len(), credentials.len(), "{text}");
    for (words, credential) in commands.iter().zip(credentials) {
        let (Some("az"), Some(body)) = (words.first().map(String::as_str), words.last()) else {
            panic!("{text}")
        };
        let one: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(one["name"].as_str(), Some(credential.name.as_str()));
        properties(&one, credential, |value| value.as_str().expect("a text").to_owned());
        let option = if credential.expression.is_some() { "--body" } else { "--parameters" };
        assert_eq!(words[words.len() - 2], option);
    }
}

fn command(line: &str) -> Option<Vec<String>> {
    if line.is_empty() || line.starts_with("# ") || line == "set -e" {
        return None;
    }
    Some(lexers::posix(&line.replace("\\\r", "\\\n")).expect("words"))
}

fn terraform(text: &str, credentials: &[Credential]) {
    let strings = lexers::HCL.strings(text).expect("HCL");
    let resources: Vec<&[String]> =
        strings.split(|string| string == "azurerm_federated_identity_credential").skip(1).collect();
    assert_eq!(resources.len(), credentials.len(), "{text}");
    for (strings, credential) in resources.iter().zip(credentials) {
        let [symbol, meant @ ..] = strings else { panic!("{text}") };
        let of_symbol = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!(
            symbol.starts_with(|first: char| first.is_ascii_alphabetic()) && symbol.bytes().all(of_symbol)
        );
        assert!(
            meant.iter().eq([
                &credential.name,
                &credential.issuer,
                &credential.subject,
                &credential.audience
            ]),
            "{text}"
        );
    }
}

fn bicep(text: &str, credentials: &[Credential]) {
    let strings = lexers::BICEP.strings(text).expect("Bicep");
    let is_type = |string: &String| string.starts_with("Microsoft.ManagedIdentity/userAssignedIdentities/");
    let resources: Vec<&[String]> = strings.split(is_type).skip(1).collect();
    assert_eq!(resources.len(), credentials.len(), "{text}");
    for (meant, credential) in resources.iter().zip(credentials) {
        let subject = credential.expression.as_ref().unwrap_or(&credential.subject);
        assert!(
            meant.iter().eq([&credential.name, &credential.issuer, subject, &credential.audience]),
            "{text}"
        );
    }
}

/// What Azure Resource Manager makes of a template's text: `[…]` is an expression, `[[…` is text.
fn evaluated(value: &Value) -> &str {
    let text = value.as_str().expect("a text");
    let text = if text.starts_with("[[") { &text[1..] } else { text };
    assert!(!value.as_str().is_some_and(|text| text.starts_with('[') && !text.starts_with("[[")), "{text:?}");
    text
}

fn arm(text: &str, credentials: &[Credential]) {
    let template: Value = serde_json::from_str(text).expect("JSON");
    let mut seen = 0;
    let mut resources = vec![&template["resources"]];
    while let Some(list) = resources.pop() {
        for resource in list.as_array().expect("a list") {
            if resource["type"] == "Microsoft.Resources/deployments" {
                evaluated(&resource["resourceGroup"]);
                resources.push(&resource["properties"]["template"]["resources"]);
                continue;
            }
            let name = evaluated(&resource["name"]);
            let is_it = |one: &&Credential| format!("{}/{}", identity(one), one.name) == name;
            let credential = credentials.iter().find(is_it).expect("a credential");
            properties(&resource["properties"], credential, |value| evaluated(value).to_owned());
            seen += 1;
        }
    }
    assert_eq!(seen, credentials.len(), "{text}");
}

fn json(text: &str, credentials: &[Credential]) {
    let list: Vec<Value> = serde_json::from_str(text).expect("JSON");
    assert_eq!(list.len(), credentials.len());
    for (one, credential) in list.iter().zip(credentials) {
        assert_eq!(one["name"].as_str(), Some(credential.name.as_str()));
        properties(one, credential, |value| value.as_str().expect("a text").to_owned());
    }
    // `trust check` and `trust apply` read it back
    let read = nearest::read(text).expect("credentials");
    for (read, credential) in read.iter().zip(credentials) {
        let subject = if credential.expression.is_some() { None } else { Some(&credential.subject) };
        assert_eq!(
            (&read.name, &read.issuer, read.subject.as_ref()),
            (&credential.name, &credential.issuer, subject)
        );
        assert_eq!(read.audiences, std::slice::from_ref(&credential.audience));
    }
}

fn properties(value: &Value, credential: &Credential, text: impl Fn(&Value) -> String) {
    assert_eq!(text(&value["issuer"]), credential.issuer);
    assert_eq!(text(&value["audiences"][0]), credential.audience);
    match &credential.expression {
        Some(expression) => assert_eq!(text(&value["claimsMatchingExpression"]["value"]), *expression),
        None => assert_eq!(text(&value["subject"]), credential.subject),
    }
}
