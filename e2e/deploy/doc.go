// Package deploy checks what is in deploy/ without a cluster: that the Kubernetes manifests are of the types that they
// claim to be, to the last field, that compose.yaml is of its schema, and that what both pass to the program is what the
// program takes. It is a module of its own, for the types of Kubernetes are not the program's.
package deploy
