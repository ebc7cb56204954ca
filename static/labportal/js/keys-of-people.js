// Security keys and passkeys: buttons for them only where the browser knows them, and plain words
// for what allauth's scripts would tell the console alone.

if (window.PublicKeyCredential) {
  for (const element of document.querySelectorAll("[data-for-keys]")) element.hidden = false;
}

const trouble = document.getElementById("key-trouble");
const REASONS = { NotAllowedError: "cancelled", AbortError: "cancelled", InvalidStateError: "known" };

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  trouble.querySelector("p").textContent = trouble.dataset[REASONS[event.detail.exception.name] ?? "failed"];
  trouble.hidden = false;
});
