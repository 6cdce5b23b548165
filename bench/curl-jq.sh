#!/bin/sh
# The login as people write it by hand on GitHub: two requests, two answers taken apart.
set -eu
assertion=$(curl --silent --show-error --fail --header "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
  "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=api://AzureADTokenExchange" | jq --raw-output .value)
token=$(curl --silent --show-error --fail "$AUTHORITY/$AZURE_TENANT_ID/oauth2/v2.0/token" \
  --data-urlencode "client_id=$AZURE_CLIENT_ID" \
  --data-urlencode "scope=https://management.azure.com/.default" \
  --data-urlencode "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer" \
  --data-urlencode "client_assertion=$assertion" \
  --data-urlencode "grant_type=client_credentials" | jq --raw-output .access_token)
test -n "$token"
