//! Blob storage, as far as Terraform's `azurerm` backend and its like reach: blobs, metadata, leases, lists.
//!
//! Source: Microsoft Learn "Blob service REST API".

use std::{collections::BTreeMap, fmt::Write as _, time::SystemTime};

use uuid::Uuid;

use crate::{
    azure::authorised,
    message::{self, Answer, Request, with},
    world::World,
};

const CONTAINER: &str = "tfstate";

/// A blob.
#[derive(Debug, Clone, Default)]
pub struct Blob {
    content: Vec<u8>,
    content_type: String,
    metadata: BTreeMap<String, String>,
    etag: String,
    lease: Option<String>,
}

fn refused(status: u16, code: &'static str, text: &str) -> Answer {
    let body = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{text}</Message></Error>"
    );
    with(message::answer(status, "application/xml", body), "x-ms-error-code", code)
}

fn described(mut answered: Answer, blob: &Blob) -> Answer {
    for (name, value) in &blob.metadata {
        if let (Ok(name), Ok(value)) =
            (format!("x-ms-meta-{name}").parse::<hyper::header::HeaderName>(), value.parse())
        {
            answered.headers_mut().insert(name, value);
        }
    }
    let state = if blob.lease.is_some() { "leased" } else { "available" };
    let status = if blob.lease.is_some() { "locked" } else { "unlocked" };
    let answered = with(answered, "etag", &blob.etag);
    let answered = with(answered, "last-modified", &httpdate::fmt_http_date(SystemTime::now()));
    let answered = with(with(answered, "x-ms-lease-state", state), "x-ms-lease-status", status);
    with(answered, "x-ms-blob-type", "BlockBlob")
}

fn metadata_of(request: &Request) -> BTreeMap<String, String> {
    request
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("x-ms-meta-")?.to_owned(), value.clone())))
        .collect()
}

/// One request to `contosotfstate.blob.core.windows.net`.
pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    let answered = match authorised(request, world, &["https://storage.azure.com"]) {
        Err(message) => refused(401, "InvalidAuthenticationInfo", message),
        Ok(()) if request.header("x-ms-version").is_none() => refused(
            400,
            "MissingRequiredHeader",
            "An HTTP header that's mandatory for this request is not specified: x-ms-version",
        ),
        Ok(()) => served(request, world),
    };
    with(answered, "x-ms-request-id", &Uuid::new_v4().to_string())
}

fn served(request: &Request, world: &World) -> Answer {
    let path = request.path.trim_matches('/').to_owned();
    let (container, name) = path.split_once('/').unwrap_or((&path, ""));
    if container != CONTAINER {
        return refused(404, "ContainerNotFound", "The specified container does not exist.");
    }
    let mut state = world.lock();
    let blobs = &mut state.blobs;
    if name.is_empty() {
        return match request.query("comp") {
            Some("list") => list(request, blobs),
            _ => with(answer200(200), "etag", "\"0x1\""),
        };
    }
    match (request.method.as_str(), request.query("comp")) {
        ("PUT", Some("lease")) => lease(request, blobs.get_mut(name)),
        ("PUT", Some("metadata")) => {
            write(request, blobs.get_mut(name), |blob| blob.metadata = metadata_of(request), 200)
        }
        ("PUT", None) => {
            if request.header("x-ms-blob-type") != Some("BlockBlob") {
                return refused(
                    400,
                    "InvalidHeaderValue",
                    "The value for one of the HTTP headers is not in the correct format.",
                );
            }
            let blob = blobs.entry(name.to_owned()).or_default();
            let put = |blob: &mut Blob| {
                blob.content.clone_from(&request.body);
                let given = request.header("x-ms-blob-content-type").or(request.header("content-type"));
                given.unwrap_or("application/octet-stream").clone_into(&mut blob.content_type);
                blob.metadata = metadata_of(request);
            };
            write(request, Some(blob), put, 201)
        }
        ("GET" | "HEAD", None | Some("metadata")) => match blobs.get(name) {
            None => refused(404, "BlobNotFound", "The specified blob does not exist."),
            Some(blob) => {
                let body = if request.method == "GET" && request.query("comp").is_none() {
                    blob.content.clone()
                } else {
                    Vec::new()
                };
                described(message::answer(200, &blob.content_type, body), blob)
            }
        },
        ("DELETE", None) => match blobs.get(name) {
            None => refused(404, "BlobNotFound", "The specified blob does not exist."),
            Some(blob)
                if blob.lease.is_some() && blob.lease.as_deref() != request.header("x-ms-lease-id") =>
            {
                refused(
                    412,
                    "LeaseIdMissing",
                    "There is currently a lease on the blob and no lease ID was specified in the request.",
                )
            }
            Some(_) => {
                blobs.remove(name);
                answer200(202)
            }
        },
        _ => refused(405, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb."),
    }
}

fn answer200(status: u16) -> Answer {
    message::answer(status, "", "")
}

/// A change to a blob: only with its lease, where it has one.
fn write(request: &Request, blob: Option<&mut Blob>, change: impl FnOnce(&mut Blob), status: u16) -> Answer {
    let Some(blob) = blob else {
        return refused(404, "BlobNotFound", "The specified blob does not exist.");
    };
    match (&blob.lease, request.header("x-ms-lease-id")) {
        (Some(_), None) => {
            return refused(
                412,
                "LeaseIdMissing",
                "There is currently a lease on the blob and no lease ID was specified in the request.",
            );
        }
        (Some(lease), Some(given)) if lease != given => {
            return refused(
                412,
                "LeaseIdMismatchWithBlobOperation",
                "The lease ID specified did not match the lease ID for the blob.",
            );
        }
        (None, Some(_)) => {
            return refused(
                412,
                "LeaseNotPresentWithBlobOperation",
                "There is currently no lease on the blob.",
            );
        }
        _ => {}
    }
    change(blob);
    blob.etag = format!("\"0x{}\"", Uuid::new_v4().simple());
    with(
        with(answer200(status), "etag", &blob.etag),
        "last-modified",
        &httpdate::fmt_http_date(SystemTime::now()),
    )
}

fn lease(request: &Request, blob: Option<&mut Blob>) -> Answer {
    let Some(blob) = blob else {
        return refused(404, "BlobNotFound", "The specified blob does not exist.");
    };
    let given = request.header("x-ms-lease-id").map(ToOwned::to_owned);
    match request.header("x-ms-lease-action").map(str::to_ascii_lowercase).as_deref() {
        Some("acquire") => {
            let wanted = request.header("x-ms-proposed-lease-id").map(ToOwned::to_owned);
            if blob.lease.is_some() && blob.lease != wanted {
                return refused(409, "LeaseAlreadyPresent", "There is already a lease present.");
            }
            let lease = wanted.unwrap_or_else(|| Uuid::new_v4().to_string());
            blob.lease = Some(lease.clone());
            with(with(answer200(201), "x-ms-lease-id", &lease), "etag", &blob.etag)
        }
        Some("break") => {
            blob.lease = None;
            with(answer200(202), "x-ms-lease-time", "0")
        }
        Some(action @ ("release" | "renew")) => {
            if blob.lease.is_none() || blob.lease != given {
                return refused(
                    409,
                    "LeaseIdMismatchWithLeaseOperation",
                    "The lease ID specified did not match the lease ID for the blob.",
                );
            }
            if action == "release" {
                blob.lease = None;
            }
            with(with(answer200(200), "x-ms-lease-id", &given.unwrap_or_default()), "etag", &blob.etag)
        }
        _ => refused(
            400,
            "InvalidHeaderValue",
            "The value for one of the HTTP headers is not in the correct format.",
        ),
    }
}

fn list(request: &Request, blobs: &BTreeMap<String, Blob>) -> Answer {
    let prefix = request.query("prefix").unwrap_or_default();
    let mut items = String::new();
    for (name, blob) in blobs.iter().filter(|(name, _)| name.starts_with(prefix)) {
        let _ = write!(
            items,
            "<Blob><Name>{name}</Name><Properties><Etag>{}</Etag><Content-Length>{}</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>",
            blob.etag.trim_matches('"'),
            blob.content.len()
        );
    }
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"{CONTAINER}\"><Prefix>{prefix}</Prefix><Blobs>{items}</Blobs><NextMarker/></EnumerationResults>"
    );
    message::answer(200, "application/xml", body)
}
