// How the page is built: below /demo/, the SDK in a file of its own, so that a change of the page leaves it in caches.
// While it is worked on, `WATCHFIRE_SERVER=127.0.0.1:8080 npm run dev` passes the SDK's requests on to that server, so
// that the page needs no other setting than where it came from.

import { defineConfig } from 'vite';

const server = `http://${process.env.WATCHFIRE_SERVER ?? '127.0.0.1:8080'}`;
const proxy = {
  '/google.firestore.v1.Firestore': { target: server },
  '/v1': { target: server },
};

export default defineConfig({
  base: '/demo/',
  server: { proxy },
  preview: { proxy },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    sourcemap: false,
    rolldownOptions: {
      output: {
        codeSplitting: { groups: [{ name: 'firebase', test: /node_modules/ }] },
      },
    },
  },
});
