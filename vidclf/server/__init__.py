"""The `serve` job: an HTTP server that classifies one video at a time.

Names for use from outside this package:

- `serve.serve(config)`: run a server until SIGINT or SIGTERM; `serve.running(config, model)` for tests.
- `app.create_app(service)`: the WSGI application, free of torch, Ray and scipy.
- `model_actor.served_model(config)`: the ensemble of a server, after checks that this machine can run it. [Ray]

This package may import `pages` and everything below it (see docs/development/architecture.md). It must not import
`reports` or `cli`.
"""
