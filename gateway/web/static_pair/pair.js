// @ts-check
// The handheld's side of pairing: post the secret, show six digits, wait for the booth.

const byId = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const given = new URLSearchParams(location.hash.slice(1));
history.replaceState(null, "", location.pathname); // the secret leaves the address bar at once
if (given.get("s")) byId("secret").value = given.get("s");

const nonce = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

/** @param {object} body */
async function ask(body) {
  const answer = await fetch("/pair", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const heard = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(`${heard.detail}。${heard.action}`), { isFinal: true });
  return heard;
}

/** @param {string} text */
function bytesOf(text) {
  const plain = text.toUpperCase().replace(/[- ]/g, "");
  const bits = Array.from(plain, (c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  return Uint8Array.from({ length: 16 }, (_, i) => parseInt(bits.slice(i * 8, i * 8 + 8), 2));
}

/** The digits as gateway/pairing.py defines them, worked out here. @param {string} secret @param {string} ca */
async function digitsOf(secret, ca) {
  const key = await crypto.subtle.importKey("raw", bytesOf(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const digest = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(`lane-pairing\n${nonce}\n${ca}`));
  return String(new DataView(digest).getUint32(0) % 1000000).padStart(6, "0");
}

/** @param {string} claim */
async function wait(claim) {
  for (;;) {
    await new Promise((done) => setTimeout(done, 1000));
    try {
      const heard = await ask({ claim });
      if (heard.state === "paired") return;
    } catch (fault) {
      if (/** @type {any} */ (fault).isFinal) throw fault;
      byId("say").textContent = "连不上网关，正在重试";
    }
  }
}

byId("form").addEventListener("submit", async (/** @type {Event} */ event) => {
  event.preventDefault();
  try {
    const secret = byId("secret").value;
    const heard = await ask({ secret, nonce, name: byId("name").value.trim() || "手持终端" });
    const ca = given.get("ca");
    if (ca && heard.digits !== await digitsOf(secret, ca)) throw new Error("证书与二维码不符，请不要继续，并告诉站长");
    byId("form").hidden = true;
    byId("waiting").hidden = false;
    byId("digits").textContent = heard.digits;
    byId("say").textContent = "";
    await wait(heard.claim);
    byId("say").textContent = "配对成功";
    location.replace("/");
  } catch (fault) {
    byId("waiting").hidden = true;
    byId("form").hidden = false;
    byId("say").textContent = fault instanceof TypeError ? "连不上网关，请再试一次" : /** @type {Error} */ (fault).message;
  }
});
