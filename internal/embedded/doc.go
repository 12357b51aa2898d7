// Package embedded holds what the demo and the tests run on where nothing else is there: a Kafka in this process,
// an echo service on a real listener, and the configuration that joins them.
//
// It knows nothing of the bridge between the two. All of it listens on loopback only, forgets everything at its
// end, and is not for production.
package embedded
