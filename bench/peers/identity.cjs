// A login on @azure/identity for JavaScript: the platform's OIDC token is the assertion of its ClientAssertionCredential.
const { ClientAssertionCredential } = require("@azure/identity");

const { env } = process;

async function assertion() {
  const answer = await fetch(`${env.ACTIONS_ID_TOKEN_REQUEST_URL}&audience=api://AzureADTokenExchange`, {
    headers: { authorization: `bearer ${env.ACTIONS_ID_TOKEN_REQUEST_TOKEN}` },
  });
  if (!answer.ok) throw new Error(`the platform answered ${answer.status}`);
  return (await answer.json()).value;
}

(async () => {
  const credential = new ClientAssertionCredential(env.AZURE_TENANT_ID, env.AZURE_CLIENT_ID, assertion);
  console.log((await credential.getToken("https://management.azure.com/.default")).token);
})().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
