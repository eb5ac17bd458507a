// Requests to this server, with the key where one was given.
const KEPT = "bakehouse-key"; // in sessionStorage: gone with the tab

export const key = () => sessionStorage.getItem(KEPT) ?? "";
export const setKey = (text) => (text ? sessionStorage.setItem(KEPT, text) : sessionStorage.removeItem(KEPT));

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export async function request(path, { method = "GET", body, signal, accept = "application/json" } = {}) {
  const headers = { Accept: accept };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, signal, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body) });
  if (!answer.ok) throw new Refused(answer.status, await problemOf(answer));
  return answer;
}

async function problemOf(answer) {
  try {
    const problem = await answer.json();
    return String(problem.detail || problem.title || answer.statusText);
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

export const json = async (path, options) => (await request(path, options)).json();
export const at = (application, what) => `/v1/applications/${encodeURIComponent(application)}/${what}`;
