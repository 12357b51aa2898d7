package main

import "testing"

func TestProperties(t *testing.T) {
	got := properties([]string{
		"PATH=/bin", "KAFKA_NODE_ID=1", "KAFKA_LISTENERS=A://:1,B://:2", "KAFKA_SASL_ENABLED_MECHANISMS=", "KAFKA_LISTENER_NAME_A_SSL___X=y=z", "KAFKA_A__B=1",
	})
	want := "a_b=1\nlistener.name.a.ssl-x=y=z\nlisteners=A://:1,B://:2\nnode.id=1\nsasl.enabled.mechanisms=\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
