"""Real servers from Python packages alone: Apache Kafka and a MongoDB-protocol store, on this machine, without Docker.

For the demo, the tests and a developer's desk; production brings its own Kafka and MongoDB. Other rooms use
`deploy.local.stack` (both servers) and `deploy.local.process` (any detached process with a pid file and a log).
"""
