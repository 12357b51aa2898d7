package payload_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkagrpc/internal/payload"
)

const proto = `
syntax = "proto3";
package p;
import "google/protobuf/any.proto";
import "google/protobuf/timestamp.proto";
message Order {
  string id = 1;
  int64 amount = 2;
  repeated Item items = 3;
  map<string, Item> gifts = 4;
  State state = 5;
  Item main = 6;
  bytes raw = 7;
  google.protobuf.Any any = 8;
  google.protobuf.Timestamp at = 9;
  oneof either { string left = 10; string right = 11; }
  optional bool flag = 12;
  double ratio = 13;
  repeated State states = 14;
  map<string, State> by_name = 15;
}
message Item { string name = 1; int32 price = 2; repeated Item items = 3; State state = 4; }
enum State { NEW = 0; PAID = 1; }
`

func order(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"p.proto": proto}),
	})}
	files, err := c.Compile(t.Context(), "p.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0].Messages().ByName("Order")
}

func TestJSON(t *testing.T) {
	t.Parallel()
	j := payload.NewJSON(order(t), payload.RefuseUnknown)
	for _, test := range []struct{ value, back string }{
		{`{}`, `{}`},
		{` { "id" : "é\u0000<&>" , "amount" : "9223372036854775807" }`, `{"id":"é\u0000<&>","amount":"9223372036854775807"}`},
		{`{"items":[{"name":"a","items":[{"price":-1}]},{}],"gifts":{"b":{},"a":{"price":1}},"state":1,"raw":"AP8="}`,
			`{"items":[{"name":"a","items":[{"price":-1}]},{}],"gifts":{"a":{"price":1},"b":{}},"state":"PAID","raw":"AP8="}`},
		{`{"any":{"@type":"x/p.Item","name":"a"},"at":"2026-01-02T03:04:05Z","left":"","flag":false,"ratio":"NaN"}`,
			`{"any":{"@type":"x/p.Item","name":"a"},"at":"2026-01-02T03:04:05Z","left":"","flag":false,"ratio":"NaN"}`},
		{`{"id":null,"items":null,"main":null}`, `{}`},
	} {
		for range 3 {
			message, err := j.Decode(context.Background(), []byte(test.value))
			if err != nil {
				t.Fatalf("%s: %v", test.value, err)
			}
			if message == nil {
				t.Errorf("%s: a nil message", test.value)
			}
			back, err := j.Encode(message)
			if err != nil || string(back) != test.back {
				t.Errorf("%s: back comes %s, %v, want %s", test.value, back, err, test.back)
			}
		}
	}
	if back, err := j.Encode([]byte("\xff")); err == nil {
		t.Errorf("what is no message becomes %s", back)
	}
}

func TestValuesThatDoNotFit(t *testing.T) {
	t.Parallel()
	descriptor := order(t)
	json := payload.NewJSON(descriptor, payload.RefuseUnknown)
	ignoring := payload.NewJSON(descriptor, payload.IgnoreUnknown)
	bare := payload.NewProtobuf(descriptor, payload.RefuseUnknown)
	loose := payload.NewProtobuf(descriptor, payload.IgnoreUnknown)
	for _, test := range []struct {
		decoder payload.Decoder
		value   string
		want    string
	}{
		{json, ` `, `there is no JSON in it`},
		{json, `hi`, `$: syntax error: invalid value hi`},
		{json, `null`, `$: unexpected token null`},
		{json, `"id"`, `$: unexpected token "id"`},
		{json, `[{}]`, `$: unexpected token [`},
		{json, `{} {}`, `$: syntax error: unexpected token {`},
		{json, `{"id":"a"`, `$: unexpected EOF`},
		{json, `{"items":[{},{"name":"a`, `$.items[1].name: unexpected EOF`},
		{json, `{"id":"a","id":"b"}`, `$.id: duplicate field "id"`},
		{json, `{"id":7}`, `$.id: invalid value for string field id: 7`},
		{json, "{\n  \"id\": \"größe\",\n  \"amount\": \"x\"\n}", `$.amount: invalid value for int64 field amount: "x"`},
		{json, `{"amount":1.5}`, `$.amount: invalid value for int64 field amount: 1.5`},
		{json, `{"amount":1e30}`, `$.amount: invalid value for int64 field amount: 1e30`},
		{json, `{"items":{}}`, `$.items: unexpected token {`},
		{json, `{"items":[{"price":1},{"price":2147483648}]}`, `$.items[1].price: invalid value for int32 field price: 2147483648`},
		{json, `{"items":[{"items":[{},{"prize":1}]}]}`, `$.items[0].items[1].prize: unknown field "prize"`},
		{json, `{"gifts":{"a b":{"nam":1}}}`, `$.gifts["a b"].nam: unknown field "nam"`},
		{json, `{"state":"PAYED"}`, `$.state: invalid value for enum field state: "PAYED"`},
		{json, `{"raw":"%"}`, `$.raw: invalid value for bytes field raw: "%"`},
		{json, `{"left":"a","right":"b"}`, `$.right: error parsing "right", oneof p.Order.either is already set`},
		{json, `{"at":"yesterday"}`, `$.at: invalid google.protobuf.Timestamp value "yesterday"`},
		{json, `{"any":{"@type":"x/p.Nothing"}}`, `$.any["@type"]: unable to resolve "x/p.Nothing": "not found"`},
		{json, `{"main":{"name":"a"},"id":tru}`, `$.id: syntax error: invalid value tru`},
		{json, "{\"id\":\"\xff\"}", `$.id: syntax error: invalid UTF-8 in string`},
		{json, `{"gifts":{"":{"nam":1}}}`, `$.gifts[""].nam: unknown field "nam"`},
		{json, "\xef\xbb\xbf{}", `it begins with a byte order mark, and JSON is UTF-8 without one`},
		{json, "\xff\xfe{\x00}\x00", `it begins with a byte order mark, and JSON is UTF-8 without one`},
		{json, "\x00\x00\x00\x00\x05{}", "it begins with byte 0, as the framing of a schema registry does, and none is read here"},
		{bare, "\x00\x00\x00\x00\x05\x00\x0a\x01a", "it begins with byte 0, as the framing of a schema registry does, and none is read here"},
		{json, "\xfd{}", "$: syntax error: invalid value \ufffd"},
		{json, `{"id":"\\","items":[{"name":"\ud83d\ude00"},{"name":"a\ud83d"}]}`, `$.items[1].name: \ud83d is half a character: the other half has to follow`},
		{json, `{"id":"\udE00 and more of it"}`, `$.id: \udE00 is half a character: the other half has to follow`},
		{json, `{"id":"\uXYZ and more of it"}`, `$.id: syntax error: invalid escape code "\\uXYZ " in string`},
		{ignoring, `{"x":1,"state":"PAYED"}`, `$.state: invalid value for enum field state: "PAYED"`},
		{ignoring, `{"x":1,"states":["PAID",1,"GONE"]}`, `$.states[2]: invalid value for enum field states: "GONE"`},
		{ignoring, `{"byName":{"a":"NEW","b":"GONE"}}`, `$.byName["b"]: invalid value for enum field value: "GONE"`},
		{ignoring, `{"items":[{},{"items":[{"state":"GONE"}]}]}`, `$.items[1].items[0].state: invalid value for enum field state: "GONE"`},
		{ignoring, `{"any":{"state":"GONE","@type":"x/p.Item"}}`, `$.any.state: invalid value for enum field state: "GONE"`},
		{ignoring, `{"x":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + `}`, "$.x" + strings.Repeat("[0]", 165) + "[0...: is nested too deep"},
		{bare, "\xff", `$: cannot parse invalid wire-format data`},
		{bare, "\x0a\x05a", `$.id: cannot parse invalid wire-format data`},
		{bare, "\x0a\x01\xff", `$.id: field p.Order.id contains invalid UTF-8`},
		{bare, "\x1a\x00\x1a\x08\x0a\x01a\x1a\x03\x0a\x05a", `$.items[1].items[0].name: cannot parse invalid wire-format data`},
		{bare, "\x22\x05\x12\x03\x0a\x01\xff", `$.gifts[0].value.name: field p.Item.name contains invalid UTF-8`},
		{bare, "\x0a\x01a\xfa\x7f\x05a", `$: cannot parse invalid wire-format data`},
		{bare, "\x72\x02\x01\x80", `$.states[0]: cannot parse invalid wire-format data`},
		{bare, "\x08\x01", `$.id: field 1 has a value that does not fit string`},
		{loose, "\xfa\x7f\x01a\x1a\x04\x12\x02\x08\x01", `$.items[0].price: field 2 has a value that does not fit int32`},
		{bare, "\xfa\x7f\x01a", `$: unknown field 2047`},
		{bare, "\x1a\x00\x1a\x04\xfa\x7f\x01a", `$.items[1]: unknown field 2047`},
		{bare, "\x22\x09\x0a\x01k\x12\x04\xfa\x7f\x01a", `$.gifts["k"]: unknown field 2047`},
		{bare, "\x32\x04\xfa\x7f\x01a", `$.main: unknown field 2047`},
	} {
		message, err := test.decoder.Decode(context.Background(), []byte(test.value))
		var wrong *payload.Error
		if !errors.As(err, &wrong) || err.Error() != test.want {
			t.Errorf("%q: %q, %v, want %s", test.value, message, err, test.want)
		}
	}
}

func TestUnknownFieldsAreLeftOut(t *testing.T) {
	t.Parallel()
	descriptor := order(t)
	for _, test := range []struct {
		decoder     payload.Decoder
		value, want string
	}{
		{payload.NewJSON(descriptor, payload.IgnoreUnknown), `{"x":1,"id":"a","main":{"y":[1]}}`, "\x0a\x01a\x32\x00"},
		{payload.NewJSON(descriptor, payload.IgnoreUnknown), `{"state":"PAID","states":[0],"x":{"state":"GONE"},"any":{"state":"GONE"},"at":"1970-01-01T00:00:01Z"}`, "\x28\x01\x42\x00\x4a\x02\x08\x01\x72\x01\x00"},
		{payload.NewProtobuf(descriptor, payload.IgnoreUnknown), "\xfa\x7f\x01a\x0a\x01a\x32\x04\xfa\x7f\x01a", "\x0a\x01a\x32\x00"},
		{payload.NewProtobuf(descriptor, payload.RefuseUnknown), "\x32\x00\x0a\x01a", "\x32\x00\x0a\x01a"},
	} {
		if got, err := test.decoder.Decode(context.Background(), []byte(test.value)); err != nil || string(got) != test.want || !test.decoder.Ready(nil) {
			t.Errorf("%q: %q, %v, want %q", test.value, got, err, test.want)
		}
	}
}
