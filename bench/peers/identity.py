"""A login on azure-identity for Python: the platform's OIDC token is the assertion of its ClientAssertionCredential."""

import os

import requests
from azure.identity import ClientAssertionCredential


def assertion():
    answer = requests.get(
        os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=api://AzureADTokenExchange",
        headers={"Authorization": "bearer " + os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]},
        timeout=30,
    )
    answer.raise_for_status()
    return answer.json()["value"]


credential = ClientAssertionCredential(os.environ["AZURE_TENANT_ID"], os.environ["AZURE_CLIENT_ID"], assertion)
print(credential.get_token("https://management.azure.com/.default").token)
