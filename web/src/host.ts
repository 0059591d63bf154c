// Under which name the page asks for its server.
//
// Over HTTP/1.1, which is what browsers speak without TLS, a browser opens six connections to a host for all of its
// windows together, and the SDK keeps two of them open in each: one by which it listens, one by which it writes. A third
// window would leave none for anything else. So the first two windows ask where the page came from, and each further one
// asks the same server by a name of its own: every name that ends in `.localhost` is this machine. Windows count
// themselves by locks, which a browser takes back when a window is gone.

import { WINDOWS_AT_HOST_MAX } from './limits';

/** Milliseconds that the other name gets to answer, in a browser or a system that may not know such names. */
const NAME_MS_MAX = 1_000;

export async function serverHost(): Promise<string> {
  const { host, hostname, port, protocol } = location;
  const isThisMachine = /^(127(\.\d+){3}|\[::1\]|(.+\.)?localhost)$/.test(hostname);
  if (protocol !== 'http:' || !isThisMachine || !navigator.locks) return host;
  for (let place = 0; place < WINDOWS_AT_HOST_MAX; place += 1) {
    if (await take(`watchfire-window-${place}`)) return host;
  }
  const [unlikely = 0] = crypto.getRandomValues(new Uint32Array(1));
  const own = `window-${unlikely.toString(36)}.localhost${port && `:${port}`}`;
  try {
    // As the SDK will ask, so that a server that refuses this page by the other name is found out here.
    const { ok } = await fetch(`http://${own}${import.meta.env.BASE_URL}`, {
      method: 'HEAD',
      mode: 'cors',
      signal: AbortSignal.timeout(NAME_MS_MAX),
    });
    return ok ? own : host;
  } catch {
    return host;
  }
}

/** Whether this window has the lock now; it keeps it as long as it is there. */
function take(lock: string): Promise<boolean> {
  return new Promise(resolve => {
    const held = navigator.locks.request(lock, { ifAvailable: true }, taken => {
      resolve(taken !== null);
      return taken && new Promise(() => {});
    });
    held.catch(() => resolve(false));
  });
}
