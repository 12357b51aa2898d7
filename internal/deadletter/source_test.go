package deadletter_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// A plain event says nothing of its call: its route does.
func TestLettersOfPlainEvents(t *testing.T) {
	t.Parallel()
	const get = "google.longrunning.Operations/GetOperation"
	found, err := protoregistry.GlobalFiles.FindDescriptorByName("google.longrunning.Operations.GetOperation")
	if err != nil {
		t.Fatal(err)
	}
	route := func(kind, encoding string) topology.RemoteRoute {
		return topology.RemoteRoute{Topic: "events", Headers: []wire.Header{header("type", kind)}, Methods: []topology.MethodPattern{get},
			Event: &topology.Event{Method: get, Input: found.(protoreflect.MethodDescriptor).Input(), Request: topology.Encoding{Name: encoding}}}
	}
	source := deadletter.Sources([]topology.Remote{{
		Cluster: &topology.Cluster{}, Contract: wire.DefaultContract(),
		Routes: []topology.RemoteRoute{route("json", topology.EncodingJSON), route("bare", topology.EncodingProtobuf), {Topic: "events"}},
	}})[0]
	letter := func(value []byte, headers ...wire.Header) deadletter.Letter {
		c := cause
		c.Topic, c.Key = "events", "id"
		l, ok := deadletter.Parse(deadletter.New(wire.Record{Value: value, Headers: headers}, c))
		if !ok {
			t.Fatal("not a letter")
		}
		return l
	}
	for _, tc := range []struct {
		name   string
		letter deadletter.Letter
		passes bool
		draft  string
		wrong  string // in place of the draft
		to     string // "" where it is right
	}{
		{name: "JSON", letter: letter([]byte(`{"name":"a"}`), header("type", "json")), passes: true, draft: `"value-json": {`, wrong: `"value-message": {`, to: "no message of a catalog"},
		{name: "no JSON", letter: letter([]byte(`{"name"`), header("type", "json")), passes: true, draft: `"value": "{\"name\""`, wrong: `"value-json": 5`},
		{name: "protobuf", letter: letter(getOperation("a"), header("type", "bare")), passes: true, draft: `"value-message": {`, wrong: `"value-message": {"names": "b",`, to: "value-message: it is no"},
		{name: "another message", letter: letter([]byte{0xff}, header("type", "bare")), passes: true, draft: `"value-base64": "/w=="`, wrong: `"value-message": {}`},
		{name: "no route", letter: letter([]byte("x"), header("type", "other")), draft: `"value": "x"`, wrong: `"value": null`},
		{name: "a request", letter: letter(getOperation("a"), append(getOperationHeaders, header("type", "json"))...), passes: true, draft: `"value-message": {`, wrong: `"value-message": {"names": "b",`, to: "value-message: it is no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if passes := source.Picks(deadletter.Filter{Method: "google.longrunning.Operations/*"})(tc.letter); passes != tc.passes {
				t.Errorf("it passes a filter for the method: %t", passes)
			}
			draft, err := source.Draft(tc.letter, protoregistry.GlobalFiles)
			if err != nil {
				t.Fatal(err)
			}
			text, err := draft.Text()
			if err != nil || !strings.Contains(string(text), tc.draft) {
				t.Fatalf("no %s in\n%s%v", tc.draft, text, err)
			}
			if _, err := draft.Read(text, now); !errors.Is(err, deadletter.ErrUnchanged) {
				t.Error(err)
			}
			_, err = draft.Read([]byte(strings.Replace(string(text), tc.draft, tc.wrong, 1)), now)
			if (err == nil) != (tc.to == "") || err != nil && !strings.Contains(err.Error(), tc.to) {
				t.Errorf("%s: %v", tc.wrong, err)
			}
		})
	}
	if r := source.Request(letter(nil, header("type", "json"))); r.CorrelationID != "id" || r.FullMethod() != get {
		t.Errorf("%+v", r)
	}
}
