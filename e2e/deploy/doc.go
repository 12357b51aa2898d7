// Package deploy checks what is in deploy/ without a cluster: that the Kubernetes manifests are of the types that they
// claim to be, to the last field, that compose.yaml is of its schema, that what both pass to the program is what the
// program takes, and that Prometheus reads the queries of alerts and dashboard, which ask for what is exported. It is a
// module of its own, for the types of Kubernetes and the parser of Prometheus are not the program's.
package deploy
