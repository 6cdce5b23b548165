"""A mirror of the releases on loopback: what it has, what it says, and what it was asked for."""

import http.server
import threading


class Mirror:
    """Serves `files` (path → bytes); a path in `truncated` gets half of its bytes."""

    def __init__(self, files, truncated=()):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                content = files.get(self.path)
                self.send_response(200 if content is not None else 404)
                content = content or b""
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if self.path in truncated else content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
