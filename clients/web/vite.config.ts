import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";
import solid from "vite-plugin-solid";

// The gateway that `npm run dev` talks to.
const gateway = process.env.GATEWAY ?? "http://127.0.0.1:8081";

export default defineConfig({
  plugins: [solid()],
  // The SDK, from its source.
  resolve: { alias: { "im-client": fileURLToPath(new URL("../typescript/src/index.ts", import.meta.url)) } },
  build: {
    // Names of files stay the same from one version to the next: see gateway/src/http/web.rs.
    rollupOptions: {
      input: { app: "index.html", ops: "ops.html" },
      output: {
        entryFileNames: "web/[name].js",
        chunkFileNames: "web/[name].js",
        assetFileNames: "web/[name][extname]",
      },
    },
    target: "es2022",
    // The notices that the licenses of the libraries require.
    license: { fileName: "web/licenses.txt" },
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    sourcemap: false,
  },
  server: {
    proxy: {
      "/api": { target: gateway, changeOrigin: true },
      "/ws": { target: gateway, changeOrigin: true, ws: true, rewriteWsOrigin: true },
    },
  },
});
