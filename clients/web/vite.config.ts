import { fileURLToPath } from "node:url";
import { build, defineConfig, type Plugin } from "vite";
import solid from "vite-plugin-solid";

// The gateway that `npm run dev` talks to.
const gateway = process.env.GATEWAY ?? "http://127.0.0.1:8081";

/**
 * The service worker, `/sw.js`: one classic script without imports, which all browsers with Web Push take, and at the top,
 * so that it is for all pages.
 */
function serviceWorker(): Plugin {
  const bundle = async (): Promise<string> => {
    const built = await build({
      configFile: false,
      publicDir: false,
      logLevel: "warn",
      build: {
        write: false,
        target: "es2022",
        lib: { entry: "src/worker/sw.ts", formats: ["iife"], name: "worker", fileName: () => "sw.js" },
      },
    });
    const [first] = Array.isArray(built) ? built : [built];
    const chunk = first && "output" in first ? first.output[0] : undefined;
    if (!chunk) throw new Error("the service worker was not built");
    return chunk.code;
  };
  return {
    name: "service-worker",
    async generateBundle() {
      this.emitFile({ type: "asset", fileName: "sw.js", source: await bundle() });
    },
    configureServer(server) {
      server.middlewares.use("/sw.js", async (_, response) => {
        response.setHeader("content-type", "text/javascript").end(await bundle());
      });
    },
  };
}

export default defineConfig({
  plugins: [solid(), serviceWorker()],
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
