#!/usr/bin/env python3
"""What Terraform's azurerm provider does before its first resource, with the environment of a step and nothing else.

The provider itself is not run. These are its requests, written anew from its sources, 4.x with its defaults (5.x reads the same
variables, and registers fewer resource providers):
hashicorp/terraform-provider-azurerm
  internal/provider/provider.go, internal/provider/framework/config.go   which variables it reads, and in what order
  internal/provider/helpers.go                                           which files, and what must not differ from them
  internal/clients/auth.go                                               who it is: the claims of a token for Microsoft Graph
  internal/resourceproviders/registration.go, required.go                the subscription's resource providers
hashicorp/go-azure-sdk
  sdk/auth/auth.go                                                       which authorizer
  sdk/auth/oidc_authorizer.go, ado_pipeline_oidc_authorizer.go, github_oidc_authorizer.go, client_credentials.go,
  managed_identity_authorizer.go                                         what each of them asks for
  sdk/environments/azure_public.go, azure_gov.go, azure_china.go         the clouds
Where the provider would go on with a secret, a certificate or az's login, this fails: none of them is handed over to it.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

# by ARM_ENVIRONMENT: Microsoft Entra, Azure Resource Manager, Microsoft Graph
CLOUDS = {
    "public": ("https://login.microsoftonline.com", "https://management.azure.com", "https://graph.microsoft.com"),
    "usgovernment": ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net", "https://graph.microsoft.us"),
    "china": ("https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn", "https://microsoftgraph.chinacloudapi.cn"),
}
AUDIENCE = "api://AzureADTokenExchange"
METADATA = "http://169.254.169.254/metadata/identity/oauth2/token"
# the smallest set of those that are registered where they are not
CORE = ("Authorization", "Compute", "CostManagement", "ManagedIdentity", "MarketplaceOrdering", "Network", "Resources", "Storage")
TRUTHS = {**dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True), **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)}


def fail(message):
    sys.exit(f"provider: {message}")


def first(*names):
    return next((os.environ[name].strip() for name in names if os.environ.get(name, "").strip()), "")


def flag(name):
    value = first(name)
    return TRUTHS[value] if value in TRUTHS else fail(f"{name} is no boolean: {value}") if value else False


def same(what, *values):
    """The one value that is given, in whichever place: two that differ are refused."""
    given = list(dict.fromkeys(value for value in values if value))
    return fail(f"two values for the {what}") if len(given) > 1 else (given or [""])[0]


def content(name):
    path = first(name)
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        return fail(f"{name}: {error}")


def ask(request, what, proxies=None):
    """An answer in JSON. Only the metadata service is asked past the proxies."""
    handlers = [] if proxies is None else [urllib.request.ProxyHandler(proxies)]
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return fail(f"{what}: HTTP {error.code}: {error.read().decode(errors='replace')}")
    except OSError as error:
        return fail(f"{what}: {error}")


def with_query(url, **more):
    """Adds what the URL's own query does not have."""
    parts = urllib.parse.urlsplit(url)
    query = urllib.parse.parse_qsl(parts.query)
    query += [pair for pair in more.items() if not dict(query).get(pair[0])]
    return urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(query)))


class Provider:
    def __init__(self):
        aks = flag("ARM_USE_AKS_WORKLOAD_IDENTITY")
        of_aks = first if aks else lambda _: ""
        self.subscription = first("ARM_SUBSCRIPTION_ID") or fail("no subscription id")
        environment = first("ARM_ENVIRONMENT") or "public"
        self.entra, self.manager, self.graph = CLOUDS.get(environment.lower()) or fail(f"no cloud is called {environment}")
        self.client = same("client id", first("ARM_CLIENT_ID"), content("ARM_CLIENT_ID_FILE_PATH"), of_aks("AZURE_CLIENT_ID"))
        self.tenant = same("tenant id", first("ARM_TENANT_ID"), of_aks("AZURE_TENANT_ID"))
        file_of_aks = content("AZURE_FEDERATED_TOKEN_FILE") if aks else ""
        self.assertion = same("OIDC token", first("ARM_OIDC_TOKEN"), content("ARM_OIDC_TOKEN_FILE_PATH"), file_of_aks)
        self.oidc = flag("ARM_USE_OIDC") or aks
        self.request_url = first("ARM_OIDC_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_URL", "SYSTEM_OIDCREQUESTURI")
        self.request_token = first("ARM_OIDC_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SYSTEM_ACCESSTOKEN")
        self.connection = first("ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID", "ARM_OIDC_AZURE_SERVICE_CONNECTION_ID")

    def token(self, resource):
        """By the first authorizer that has what it needs; one that fails is the end of it."""
        if self.tenant and self.client:
            if first("ARM_CLIENT_CERTIFICATE", "ARM_CLIENT_CERTIFICATE_PATH"):
                fail("it would present a certificate")
            if same("client secret", first("ARM_CLIENT_SECRET"), content("ARM_CLIENT_SECRET_FILE_PATH")):
                fail("it would present a client secret")
            if self.oidc and self.assertion:
                return self.exchanged(self.assertion, resource)
            if self.oidc and self.request_url and self.request_token:
                return self.exchanged(self.of_azure_devops() if self.connection else self.of_github(), resource)
        if flag("ARM_USE_MSI"):
            return self.of_managed_identity(resource)
        return fail("neither an OIDC token nor a managed identity: az's login is all that is left")

    def exchanged(self, assertion, resource):
        form = {
            "client_assertion": assertion, "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_id": self.client, "grant_type": "client_credentials", "scope": f"{resource}/.default",
        }
        request = urllib.request.Request(f"{self.entra}/{self.tenant}/oauth2/v2.0/token", data=urllib.parse.urlencode(form).encode())
        return ask(request, "Microsoft Entra")["access_token"]

    def of_github(self):
        url = with_query(self.request_url, audience=AUDIENCE)
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self.request_token}"}
        return ask(urllib.request.Request(url, headers=headers), "the OIDC request").get("value") or fail("no OIDC token in the answer")

    def of_azure_devops(self):
        url = with_query(self.request_url, **{"api-version": "7.1", "serviceConnectionId": self.connection, "audience": AUDIENCE})
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self.request_token}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, headers=headers, method="POST")
        return ask(request, "the OIDC request").get("oidcToken") or fail("no OIDC token in the answer")

    def of_managed_identity(self, resource):
        query = {"api-version": first("ARM_MSI_API_VERSION") or "2018-02-01", "resource": resource}
        query.update({"client_id": self.client} if self.client else {})
        url = f"{first('ARM_MSI_ENDPOINT') or METADATA}?{urllib.parse.urlencode(query)}"
        return ask(urllib.request.Request(url, headers={"Metadata": "true"}), "the managed identity", proxies={})["access_token"]

    def configure(self):
        """Who it is, and the resource providers of the subscription, all pages of them."""
        payload = self.token(self.graph).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if not claims.get("oid"):
            fail("the token names no object: it would search Microsoft Graph")
        if not claims.get("tid") and not self.tenant:
            fail("no tenant id")
        self.bearer = {"Authorization": f"Bearer {self.token(self.manager)}"}
        url, known = f"{self.manager}/subscriptions/{self.subscription}/providers?api-version=2022-09-01", {}
        while url:
            page = ask(urllib.request.Request(url, headers=self.bearer), "the list of resource providers")
            known.update({one["namespace"]: one["registrationState"] for one in page["value"]})
            url = page.get("nextLink")
        for name in (f"Microsoft.{name}" for name in CORE):
            if known.get(name, "Registered") != "Registered":
                url = f"{self.manager}/subscriptions/{self.subscription}/providers/{name}/register?api-version=2022-09-01"
                ask(urllib.request.Request(url, headers=self.bearer, data=b"{}", method="POST"), f"registration of {name}")
        return claims

    def subscription_name(self):
        """What `data "azurerm_subscription"` reads."""
        url = f"{self.manager}/subscriptions/{self.subscription}?api-version=2022-12-01"
        return ask(urllib.request.Request(url, headers=self.bearer), "the subscription")["displayName"]


if __name__ == "__main__":
    provider = Provider()
    who = provider.configure()
    print(json.dumps({"client": who.get("appid") or provider.client, "object": who["oid"], "subscription": provider.subscription_name()}))
