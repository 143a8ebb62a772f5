"""What the manifests take from rules/ and alertmanager/, in the Prometheus Operator's shapes."""
