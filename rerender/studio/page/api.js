// Talking to the studio. Every request goes to this page's own address.
export async function call(path, { method = "GET", json, body } = {}) {
  const headers = { "X-Rerender-Studio": "1" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: json === undefined ? body : JSON.stringify(json) });
  } catch {
    throw new Error("The studio does not answer. Is its command still running?");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error || `The studio answered ${answer.status}.`);
  return found;
}

// An upload with its progress, which fetch does not tell.
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/clips?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("X-Rerender-Studio", "1");
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(new Error(`${file.name}: the upload was broken off`));
    request.onload = () => {
      let found = {};
      try { found = JSON.parse(request.responseText); } catch { /* said below */ }
      if (request.status === 201) resolve(found);
      else reject(new Error(found.error || `The studio answered ${request.status}.`));
    };
    request.send(file);
  });
}

export const $ = (id) => document.getElementById(id);

// An element with properties, classes and children. Text is text: nothing is parsed as HTML.
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function time(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}
