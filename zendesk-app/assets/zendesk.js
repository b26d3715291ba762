// Everything that the app asks of Zendesk. Nothing else touches the ZAF client.

const INSERT = { internal_note: "internalNote", reply: "publicReply" };

export class Zendesk {
  #client;

  constructor(client) {
    this.#client = client;
  }

  /** Ticket, locale and colour scheme; what Zendesk does not tell has a default. */
  async context() {
    const found = await this.#client.get(["ticket.id", "currentUser.locale"]);
    const scheme = await this.#client.get("colorScheme").catch(() => ({}));
    return {
      ticket: String(found["ticket.id"] ?? ""),
      locale: found["currentUser.locale"] ?? navigator.language,
      scheme: scheme.colorScheme ?? null,
    };
  }

  onScheme(listener) {
    this.#client.on("colorScheme.changed", listener);
  }

  resize(height) {
    return this.#client.invoke("resize", { width: "100%", height: `${height}px` });
  }

  /** Put `text` into the ticket's editor as an internal note or a public reply; the agent still submits it. */
  async insert(text, as) {
    await this.#client.set("comment.type", INSERT[as]);
    await this.#client.invoke("comment.appendText", text);
  }

  /**
   * A fresh session for an old one. Zendesk's proxy signs the request with the installation's secret, which
   * this page never sees: that proves the installation; who the agent is stands in the old session.
   */
  async refresh(session) {
    const answer = await this.#client.request({
      url: new URL("/support/zendesk/session", location.origin).href,
      type: "POST",
      contentType: "application/json",
      data: JSON.stringify({ session }),
      headers: { Authorization: "Bearer {{jwt.token}}" },
      jwt: { algorithm: "HS256", secret_key: "{{setting.shared_secret}}", expiry: 60 },
      secure: true,
    });
    return answer.session;
  }
}
