"""Real servers from Python packages alone: Apache Kafka and a store with MongoDB's protocol, without Docker.

They are for the demo, the tests and development. Production has its own Kafka and MongoDB. Other rooms use
`deploy.local.stack` (both servers) and `deploy.local.process` (any detached process with a pid file and a log).
"""
