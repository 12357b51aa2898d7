package deadletter_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	_ "cloud.google.com/go/longrunning/autogen/longrunningpb" // has methods that everybody knows
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoregistry"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/wire"
)

func getOperation(name string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
}

func draftOf(t *testing.T, key, value []byte, headers ...wire.Header) (*deadletter.Draft, string) {
	t.Helper()
	r := deadletter.New(wire.Record{Key: key, Value: value, Headers: headers}, cause)
	r.Topic, r.Partition, r.Offset = "letters", 1, 2
	l, ok := deadletter.Parse(r)
	if !ok {
		t.Fatal("not a letter")
	}
	source := requestSource
	draft, err := source.Draft(l, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	text, err := draft.Text()
	if err != nil {
		t.Fatal(err)
	}
	return draft, string(text)
}

var getOperationHeaders = []wire.Header{header("zilla:service", "google.longrunning.Operations"), header("zilla:method", "GetOperation")}

// Whatever a record is, its draft has it in the form that is best to read, unchanged it is nothing to send, and of what is changed the
// rest stays the same to the byte.
func TestDraftIsWhatTheLetterWas(t *testing.T) {
	t.Parallel()
	broken := append(getOperation("a"), 0xff)
	unknown := protowire.AppendVarint(protowire.AppendTag(getOperation("a"), 99, protowire.VarintType), 5)
	for _, tc := range []struct {
		name       string
		key, value []byte
		headers    []wire.Header
		want       []string
	}{
		{name: "nulls", want: []string{`"key": null`, `"headers": []`, `"value": null`}},
		{name: "empty", key: []byte{}, value: []byte{}, headers: []wire.Header{{Name: "null"}, header("", "")},
			want: []string{`"key": ""`, `"value": ""`, `"name": "null",` + "\n" + `      "value": null`, `"name": ""`}},
		{name: "bytes", key: []byte{0xff}, value: []byte{0xfe, 0}, headers: []wire.Header{header("x", "\xff")},
			want: []string{`"key-base64": "/w=="`, `"value-base64": "/gA="`, `"value-base64": "/w=="`}},
		{name: "text", key: []byte("a\x00<b>"), value: []byte("line\nline"), want: []string{`"key": "a\u0000<b>"`, `"value": "line\nline"`}},
		{name: "JSON", value: []byte("{\n\"b\" : 1e400,\"a\":12345678901234567890 , \"a\":\"<&>\"}"),
			want: []string{"\"value-json\": {\n    \"b\": 1e400,\n    \"a\": 12345678901234567890,\n    \"a\": \"<&>\"\n  }"}},
		{name: "broken JSON", value: []byte(`{"a": 1,}`), want: []string{`"value": "{\"a\": 1,}"`}},
		{name: "a number", value: []byte("12"), want: []string{`"value": "12"`}},
		{name: "JSON that is not UTF-8", value: []byte("[\"\xff\"]"), want: []string{`"value-base64"`}},
		{name: "a message", value: getOperation("a"), headers: getOperationHeaders, want: []string{`"value-message": {` + "\n" + `    "name": "a"`, `"method": "google.longrunning.Operations/GetOperation"`}},
		{name: "an empty message", value: []byte{}, headers: getOperationHeaders, want: []string{`"value-message": {` + "\n" + `    "name": ""`}},
		{name: "the end of a request", headers: getOperationHeaders, want: []string{`"value": null`}},
		{name: "no message of the method", value: broken, headers: getOperationHeaders, want: []string{`"value-base64"`}},
		{name: "a message with fields of a later version", value: unknown, headers: getOperationHeaders, want: []string{`"value-base64"`}},
		{name: "an unknown method", value: getOperation("a"), headers: []wire.Header{header("zilla:service", "a.B"), header("zilla:method", "C")}, want: []string{`"value": "\n\u0001a"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			draft, text := draftOf(t, tc.key, tc.value, tc.headers...)
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %s in\n%s", want, text)
				}
			}
			var compact strings.Builder
			var v json.RawMessage
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				t.Fatal(err)
			}
			compact.Write(v)
			for _, same := range []string{text, compact.String(), strings.ReplaceAll(text, "\n", "\r\n")} {
				if _, err := draft.Read([]byte(same), now); !errors.Is(err, deadletter.ErrUnchanged) {
					t.Errorf("unchanged: %v\n%s", err, same)
				}
			}
			l, err := draft.Read([]byte(strings.Replace(text, `"headers": [`, `"headers": [{"name": "more", "value": "1"},`, 1)), now)
			if strings.Contains(text, `"headers": []`) {
				l, err = draft.Read([]byte(strings.Replace(text, `"headers": []`, `"headers": [{"name": "more", "value": "1"}]`, 1)), now)
			}
			if err != nil {
				t.Fatal(err)
			}
			again := l.Again()[0]
			want := append(append([]wire.Header{header("more", "1")}, tc.headers...), edits...)
			if diff := cmp.Diff(want, again.Headers); diff != "" {
				t.Errorf("headers: %s", diff)
			}
			if diff := cmp.Diff([][]byte{tc.key, tc.value}, [][]byte{again.Key, again.Value}); diff != "" {
				t.Errorf("key and value: %s", diff)
			}
		})
	}
}

var edits = []wire.Header{header("kafkagrpc.edited.topic", "letters"), header("kafkagrpc.edited.partition", "1"), header("kafkagrpc.edited.offset", "2"),
	header("kafkagrpc.edited.timestamp", "1769860800000")}

func TestDraftThatWasEdited(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		from, to string
		value    string
		wrong    string // part of the error
	}{
		{name: "a message", from: `"name": "a"`, to: `"name": "b"`, value: string(getOperation("b"))},
		{name: "a message as bytes", from: `"value-message": {` + "\n" + `    "name": "a"` + "\n  }", to: `"value-base64": "AP8="`, value: "\x00\xff"},
		{name: "a message as JSON", from: `"value-message"`, to: `"value-json"`, value: `{"name":"a"}`},
		{name: "a message as null", from: `"value-message": {` + "\n" + `    "name": "a"` + "\n  }", to: `"value": null`, value: "null"},
		{name: "no JSON", from: `"value-message": {`, to: `"value-message": {,`, wrong: "line 19, column 21: invalid character ','"},
		{name: "too short", from: "\n}\n", to: "", wrong: "it ends too soon"},
		{name: "two of them", from: "\n}\n", to: "\n}{}", wrong: "something follows"},
		{name: "no UTF-8", from: `"name": "a"`, to: "\"name\": \"\xff\"", wrong: "not UTF-8"},
		{name: "another field", from: `"key"`, to: `"keys"`, wrong: `unknown field "keys"`},
		{name: "a field of the message that it has not", from: `"name": "a"`, to: `"names": "a"`, wrong: "value-message: it is no google.longrunning.GetOperationRequest"},
		{name: "a field of another kind", from: `"name": "a"`, to: `"name": 1`, wrong: "value-message: it is no"},
		{name: "no key", from: `"key": "k",`, to: "", wrong: "one of key, key-base64 is missing"},
		{name: "a key that is a number", from: `"key": "k"`, to: `"key": 7`, wrong: "key: it takes a text, or null"},
		{name: "two keys", from: `"key": "k"`, to: `"key": "k", "key-base64": ""`, wrong: "key and key-base64: one of them is to go"},
		{name: "no base64", from: `"key": "k"`, to: `"key-base64": "%"`, wrong: "key-base64: illegal base64"},
		{name: "another letter", from: `"letter": "1@2"`, to: `"letter": "1@3"`, wrong: "about: it only says which letter this is"},
		{name: "another topic", from: `"topic": "requests"`, to: `"topic": "others"`, wrong: "about: it only"},
		{name: "no headers", from: `"headers": [`, to: `"headers": null, "x": [`, wrong: `unknown field "x"`},
		{name: "a deadline", from: `"name": "zilla:service"`, to: `"name": "grpc:deadline"`, wrong: "headers[0]: grpc:deadline is never sent"},
		{name: "a number of a message", from: `"name": "zilla:service"`, to: `"name": "grpc:message"`, wrong: "headers[0]: grpc:message is never sent"},
		{name: "a mark of ours", from: `"name": "zilla:service"`, to: `"name": "kafkagrpc.source"`, wrong: "headers[0]: kafkagrpc.source is never sent"},
		{name: "a header of a number", from: `"value": "GetOperation"`, to: `"value": 1`, wrong: "headers[1]: value: it takes a text"},
		{name: "a header without a value", from: `"value": "GetOperation"`, to: `"masked": 0`, wrong: "headers[1]: one of value, value-base64 is missing"},
		{name: "a header that masks nothing", from: `"value": "GetOperation"`, to: `"masked": 1`, wrong: "headers[1]: the letter has no masked value 1 of a header zilla:method"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			draft, text := draftOf(t, []byte("k"), getOperation("a"), getOperationHeaders...)
			if !strings.Contains(text, tc.from) {
				t.Fatalf("no %s in\n%s", tc.from, text)
			}
			l, err := draft.Read([]byte(strings.Replace(text, tc.from, tc.to, 1)), now)
			if tc.wrong != "" {
				if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "\u00a0", " "), tc.wrong) {
					t.Errorf("no %q in %v", tc.wrong, err)
				}
				return
			}
			got := "null"
			if l.Value != nil {
				got = string(l.Value)
			}
			if err != nil || got != tc.value {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// Credentials are neither shown nor lost; and what an editor is given cannot make one go out under another name.
func TestDraftOfCredentials(t *testing.T) {
	t.Parallel()
	secrets := []wire.Header{header("meta:authorization", "hunter1"), header("x", "1"), header("meta:authorization", "\xffhunter2"), {Name: "meta:Cookie"},
		header("grpc:deadline", "1"), header("kafkagrpc.edited.topic", "older")}
	draft, text := draftOf(t, []byte("k"), []byte("v"), secrets...)
	if strings.Contains(text, "hunter") || strings.Contains(text, "deadline") || strings.Contains(text, "edited") {
		t.Fatalf("shown:\n%s", text)
	}
	if _, err := draft.Read([]byte(text), now); !errors.Is(err, deadletter.ErrUnchanged) {
		t.Error(err)
	}
	l, err := draft.Read([]byte(strings.Replace(text, `"value": "v"`, `"value": "w"`, 1)), now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append(secrets[:4:4], edits...), l.Again()[0].Headers); diff != "" {
		t.Error(diff)
	}
	const second = `"name": "meta:authorization",` + "\n" + `      "masked": 2`
	if !strings.Contains(text, second) {
		t.Fatal(text)
	}
	l, err = draft.Read([]byte(strings.Replace(strings.Replace(text, `"masked": 1`, `"value": "mine"`, 1), second, `"name": "meta:cookie", "value": ""`, 1)), now)
	want := []wire.Header{header("meta:authorization", "mine"), header("x", "1"), header("meta:cookie", ""), {Name: "meta:Cookie"}}
	if err != nil || cmp.Diff(append(want, edits...), l.Again()[0].Headers) != "" {
		t.Errorf("%q, %v", l.Own, err)
	}
	for _, to := range []string{`"name": "meta:x", "masked": 2`, `"name": "meta:authorization", "masked": 3`, `"name": "meta:authorization", "masked": 2, "value": ""`, `"name": "meta:authorization", "masked": -1`} {
		if _, err := draft.Read([]byte(strings.Replace(text, second, to, 1)), now); err == nil || !strings.Contains(err.Error(), "headers[2]: ") {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// A record that was edited once stays marked, also when it is replayed as it is.
func TestReplayOfAnEditedLetterStaysMarked(t *testing.T) {
	t.Parallel()
	l, ok := deadletter.Parse(deadletter.New(wire.Record{Value: []byte("v"), Headers: append([]wire.Header{header("x", "1"), header("kafkagrpc.source", "0/0/0/t")}, edits...)}, cause))
	if !ok {
		t.Fatal("not a letter")
	}
	if diff := cmp.Diff(append([]wire.Header{header("x", "1")}, edits...), l.Again()[0].Headers); diff != "" {
		t.Error(diff)
	}
}
