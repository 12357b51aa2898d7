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
	framed := func(kind, encoding string) topology.RemoteRoute {
		r := route(kind, encoding)
		r.Event.Request.Registry = &topology.Registry{}
		return r
	}
	source := deadletter.Sources([]topology.Remote{{
		Cluster: &topology.Cluster{}, Contract: wire.DefaultContract(),
		Routes: []topology.RemoteRoute{route("json", topology.EncodingJSON), route("bare", topology.EncodingProtobuf),
			framed("framed-json", topology.EncodingJSON), framed("framed", topology.EncodingProtobuf), framed("avro", topology.EncodingAvro), {Topic: "events"}},
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
		value  string // that it has then, where the test looks at it
	}{
		{name: "JSON", letter: letter([]byte(`{"name":"a"}`), header("type", "json")), passes: true, draft: `"value-json": {`, wrong: `"value-message": {`, to: "no message of a catalog"},
		{name: "no JSON", letter: letter([]byte(`{"name"`), header("type", "json")), passes: true, draft: `"value": "{\"name\""`, wrong: `"value-json": 5`},
		{name: "protobuf", letter: letter(getOperation("a"), header("type", "bare")), passes: true, draft: `"value-message": {`, wrong: `"value-message": {"names": "b",`, to: "value-message: it is no"},
		{name: "another message", letter: letter([]byte{0xff}, header("type", "bare")), passes: true, draft: `"value-base64": "/w=="`, wrong: `"value-message": {}`},
		{name: "framed JSON", letter: letter([]byte("\x00\x00\x00\x00\x07{\"name\":\"a\"}"), header("type", "framed-json")), passes: true, draft: `"value-json": {
    "name": "a"
  }`, wrong: `"value-json": {"name": "b"}`, value: "\x00\x00\x00\x00\x07{\"name\":\"b\"}"},
		{name: "JSON without its frame", letter: letter([]byte(`{"name":"a"}`), header("type", "framed-json")), passes: true, draft: `"value-json": {`, wrong: `"value-json": {"x": 1,`, value: `{"x":1,"name":"a"}`},
		{name: "framed protobuf", letter: letter(append([]byte("\x00\x00\x00\x00\x07\x02\x04"), getOperation("a")...), header("type", "framed")), passes: true, draft: `"value-message": {
    "name": "a"`, wrong: `"value-message": {"name": "b"`, value: "\x00\x00\x00\x00\x07\x02\x04" + string(getOperation("b"))},
		{name: "framed, and broken", letter: letter([]byte("\x00\x00\x00\x00\x07\x00\xff"), header("type", "framed")), passes: true, draft: `"value-base64": "AAAAAAcA/w=="`, wrong: `"value-message": {"name": "b"}`,
			value: "\x00\x00\x00\x00\x07\x00" + string(getOperation("b"))},
		{name: "Avro", letter: letter([]byte("\x00\x00\x00\x00\x07\xff"), header("type", "avro")), passes: true, draft: `"value-base64": "AAAAAAf/"`, wrong: `"value-base64": "AAAAAAcA"`, value: "\x00\x00\x00\x00\x07\x00"},
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
			edited, err := draft.Read([]byte(strings.Replace(string(text), tc.draft, tc.wrong, 1)), now)
			if (err == nil) != (tc.to == "") || err != nil && !strings.Contains(err.Error(), tc.to) {
				t.Errorf("%s: %v", tc.wrong, err)
			}
			if tc.value != "" && string(edited.Value) != tc.value {
				t.Errorf("%s: the value is %q, not %q", tc.wrong, edited.Value, tc.value)
			}
		})
	}
	if r := source.Request(letter(nil, header("type", "json"))); r.CorrelationID != "id" || r.FullMethod() != get {
		t.Errorf("%+v", r)
	}
}
