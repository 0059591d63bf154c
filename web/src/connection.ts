// Whether the server is there, in one of four states, and the switch that takes this window offline on purpose.
//
// The SDK says it by `fromCache`: a result that is not, or no longer, held against the server. That a server has gone
// away it says only after it has tried for a while, and then it tries again ever more seldom. So that who looks on waits
// for neither, the page asks for its own address when a write is not answered soon, and again until there is an answer;
// then it lets the SDK begin anew.

import { disableNetwork, enableNetwork, type Firestore } from 'firebase/firestore';
import { PROBE_INTERVAL_MS, PROBE_MS_MAX } from './limits';

export type State = 'connecting' | 'live' | 'reconnecting' | 'offline';
type Watcher = (state: State) => void;

/** How many looks the SDK gets to connect after it was told to begin anew. */
const PROBES_PER_START = 3;

export class Connection {
  state: State = 'connecting';
  private chosenOffline = false;
  private everLive = false;
  private fromCache = true;
  private doubted = false;
  private probes = 0;
  private readonly watchers: Watcher[] = [];

  constructor(private readonly db: Firestore) {
    setInterval(() => void this.probe(), PROBE_INTERVAL_MS);
    window.addEventListener('online', () => void this.restart());
    window.addEventListener('offline', () => this.silent());
  }

  onChange(watcher: Watcher): void {
    this.watchers.push(watcher);
    watcher(this.state);
  }

  /** Another board is opened: nothing is known of the server until its first answer. */
  begin(): void {
    this.everLive = false;
    this.fromCache = true;
    this.become(this.chosenOffline ? 'offline' : 'connecting');
  }

  /** A result came, from the cache alone or held against the server. */
  heard(fromCache: boolean): void {
    const isNews = fromCache !== this.fromCache;
    this.fromCache = fromCache;
    if (this.chosenOffline) return;
    if (fromCache) {
      if (this.everLive) this.become('reconnecting');
    } else if (isNews || !this.everLive) {
      this.everLive = true;
      this.become('live');
    }
  }

  /** A write is not answered as soon as others were: is the server there at all? */
  async doubt(): Promise<void> {
    if (this.state !== 'live' || this.doubted) return;
    this.doubted = true;
    if (!(await isServerThere())) this.silent();
    this.doubted = false;
  }

  /** A write has waited for its answer too long to believe in the connection. */
  silent(): void {
    if (this.state === 'live') this.become('reconnecting');
  }

  /** A write was answered. */
  answered(): void {
    if (this.state === 'reconnecting') this.become('live');
  }

  async setOffline(offline: boolean): Promise<void> {
    if (offline === this.chosenOffline) return;
    this.chosenOffline = offline;
    if (offline) {
      this.become('offline');
      await disableNetwork(this.db);
    } else {
      this.become(this.everLive ? 'reconnecting' : 'connecting');
      // It gets its time before it is told to begin anew.
      this.probes = 0;
      await enableNetwork(this.db);
    }
  }

  private async probe(): Promise<void> {
    if (this.state !== 'reconnecting' && this.state !== 'connecting') {
      this.probes = 0;
      return;
    }
    this.probes += 1;
    // The first look is left to the SDK, which may be on its way already.
    if (this.probes % PROBES_PER_START !== 2) return;
    if (await isServerThere()) await this.restart();
    else this.probes -= 1;
  }

  private async restart(): Promise<void> {
    if (this.chosenOffline || this.state === 'live') return;
    await disableNetwork(this.db);
    if (!this.chosenOffline) await enableNetwork(this.db);
  }

  private become(state: State): void {
    if (state === this.state) return;
    this.state = state;
    for (const watcher of this.watchers) watcher(state);
  }
}

async function isServerThere(): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(PROBE_MS_MAX);
    const answer = await fetch(import.meta.env.BASE_URL, { method: 'HEAD', cache: 'no-store', signal });
    return answer.ok;
  } catch {
    return false;
  }
}
