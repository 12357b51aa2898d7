package payload_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/avro"
	"google.golang.org/protobuf/encoding/protojson"
	protobuf "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"kafkagrpc/internal/payload"
)

const everyKind = `syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
message Outer { message Inner { string x = 1; } map<string, string> m = 2; message Second { string y = 1; } }
enum Color { NONE = 0; RED = 1; GREEN = 5; }
message Item { string sku = 1; double price = 2; }
message Card { string pan = 1; }
message Cash { int64 cents = 1; }
message Tree { string name = 1; repeated Tree below = 2; }
message Order {
  string id = 1;
  int32 i32 = 2; sint64 s64 = 3; uint32 u32 = 4; fixed64 f64 = 5; sfixed32 sf32 = 6; uint64 u64 = 7; int64 i64 = 8;
  float f = 9; double d = 10; bool b = 11; bytes raw = 12; Color color = 13;
  Item item = 14; repeated Item items = 15; repeated int32 numbers = 16; repeated string tags = 17;
  map<string, int64> counts = 18; map<int32, Item> by_number = 19; map<bool, string> flags = 20;
  google.protobuf.Timestamp at = 21; google.protobuf.Duration since = 22;
  google.protobuf.StringValue note = 23; google.protobuf.Int64Value amount = 24;
  optional int32 maybe = 25; string text = 26; Tree tree = 27; string customer_name = 28; repeated Color colors = 29;
  oneof payment { Card card = 30; Cash cash = 31; string voucher = 32; }
  oneof value { int64 whole = 33; double fraction = 34; }
}
`

func messages(t testing.TB, source string) protoreflect.MessageDescriptors {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"x.proto": source}),
	})}
	files, err := c.Compile(context.Background(), "x.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0].Messages()
}

// fixedSchemas answers one schema to every id but 404, and cannot be asked for 503.
type fixedSchemas struct{ schema *payload.Schema }

var errDown = errors.New("down")

func (fixedSchemas) IDBytes() int { return payload.ShortID }

func (f fixedSchemas) Known(id int) bool { return id != 503 }

func (f fixedSchemas) Schema(_ context.Context, id int) (*payload.Schema, error) {
	switch id {
	case 404:
		return nil, &payload.Error{Reason: "its schema 404 is unknown"}
	case 503:
		return nil, errDown
	}
	return f.schema, nil
}

func avroSchema(text string, references ...string) *payload.Schema {
	return &payload.Schema{ID: 7, Format: payload.FormatAvro, Text: text, References: references}
}

func framedValue(rest []byte) []byte { return append([]byte{0, 0, 0, 0, 7}, rest...) }

func encode(t testing.TB, schema string, v any) []byte {
	t.Helper()
	value, err := avro.MustParse(schema).Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return framedValue(value)
}

func asJSON(t testing.TB, of protoreflect.MessageDescriptor, message []byte) string {
	t.Helper()
	m := dynamicpb.NewMessage(of)
	if err := protobuf.Unmarshal(message, m); err != nil {
		t.Fatalf("what was decoded is no %s: %v", of.FullName(), err)
	}
	canonical, err := protobuf.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(canonical) != len(message) {
		t.Errorf("what was decoded has %d bytes, and %d as protobuf writes it", len(message), len(canonical))
	}
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func sameJSON(t testing.TB, got, want string) {
	t.Helper()
	var a, b any
	if err := errors.Join(json.Unmarshal([]byte(got), &a), json.Unmarshal([]byte(want), &b)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// one is the schema of a record with one field.
func one(name, typ string) string {
	return `{"type":"record","name":"Order","namespace":"shop.v1","fields":[{"name":"` + name + `","type":` + typ + `}]}`
}

const (
	itemType  = `{"type":"record","name":"Item","fields":[{"name":"sku","type":"string"},{"name":"price","type":"double"}]}`
	colorType = `{"type":"enum","name":"Color","symbols":["BLUE","GREEN"]}`
	treeType  = `{"type":"record","name":"Tree","fields":[{"name":"name","type":"string"},{"name":"below","type":{"type":"array","items":"Tree"}}]}`
	payment   = `["null",{"type":"record","name":"Card","fields":[{"name":"pan","type":"string"}]},{"type":"record","name":"Cash","fields":[{"name":"cents","type":"int"}]},"string"]`
)

func logical(typ, name string) string { return `{"type":"` + typ + `","logicalType":"` + name + `"}` }

func TestAvro(t *testing.T) {
	t.Parallel()
	order := messages(t, everyKind).ByName("Order")
	at := time.Date(2026, 1, 31, 12, 30, 15, 250_000_000, time.UTC)
	for _, c := range []struct {
		name, field, typ string
		value            any
		want             string // JSON, or a part of the error
	}{
		{"string", "id", `"string"`, "x", `{"id":"x"}`},
		{"name in JSON", "customerName", `"string"`, "ann", `{"customerName":"ann"}`},
		{"name", "customer_name", `"string"`, "ann", `{"customerName":"ann"}`},
		{"a zero says nothing", "i32", `"int"`, 0, `{}`},
		{"a zero of an optional field is seen", "maybe", `["null","int"]`, 0, `{"maybe":0}`},
		{"null", "maybe", `["null","int"]`, nil, `{}`},
		{"int", "i32", `"int"`, -5, `{"i32":-5}`},
		{"int, zigzag", "s64", `"int"`, -5, `{"s64":"-5"}`},
		{"int, fixed", "sf32", `"int"`, -5, `{"sf32":-5}`},
		{"long that fits", "i32", `"long"`, math.MaxInt32, `{"i32":2147483647}`},
		{"long that does not", "i32", `"long"`, math.MaxInt32 + 1, `$.i32: is 2147483648, which int32 cannot hold`},
		{"negative", "u32", `"int"`, -1, `$.u32: is -1, which uint32 cannot hold`},
		{"negative, 64 bits", "f64", `"long"`, -1, `$.f64: is -1, which fixed64 cannot hold`},
		{"large", "u64", `"long"`, int64(math.MaxInt64), `{"u64":"9223372036854775807"}`},
		{"int in double", "d", `"int"`, 3, `{"d":3}`},
		{"long in double", "d", `"long"`, 1<<53 + 1, `$.d: is 9007199254740993, which double cannot hold`},
		{"long in float", "f", `"long"`, 1<<24 + 1, `$.f: is 16777217, which float cannot hold`},
		{"float in double", "d", `"float"`, float32(0.5), `{"d":0.5}`},
		{"double in float", "f", `"double"`, 0.5, `{"f":0.5}`},
		{"double in float that loses", "f", `"double"`, 0.1, `$.f: is 0.1, which float cannot hold`},
		{"not a number", "f", `"double"`, math.NaN(), `{"f":"NaN"}`},
		{"infinity", "f", `"float"`, float32(math.Inf(-1)), `{"f":"-Infinity"}`},
		{"whole double in int", "i32", `"double"`, 3.0, `{"i32":3}`},
		{"fraction in int", "i32", `"double"`, 3.5, `$.i32: is 3.5, which int32 cannot hold`},
		{"not a number in int", "i64", `"double"`, math.NaN(), `$.i64: is NaN, which int64 cannot hold`},
		{"double beyond int", "i64", `"double"`, float64(1 << 63), `which int64 cannot hold`},
		{"negative zero", "d", `"double"`, math.Copysign(0, -1), `{"d":-0}`},
		{"boolean", "b", `"boolean"`, true, `{"b":true}`},
		{"boolean in int", "i32", `"boolean"`, true, `$.i32: is boolean, which does not fit int32 shop.v1.Order.i32`},
		{"bytes", "raw", `"bytes"`, []byte{1, 255}, `{"raw":"Af8="}`},
		{"bytes as text", "id", `"bytes"`, []byte("x"), `$.id: is bytes, which does not fit string shop.v1.Order.id`},
		{"fixed", "raw", `{"type":"fixed","name":"F","size":2}`, []byte{1, 255}, `{"raw":"Af8="}`},
		{"enum", "color", colorType, "GREEN", `{"color":"GREEN"}`},
		{"enum that is not there", "color", colorType, "BLUE", `$.color: is "BLUE", which enum shop.v1.Color does not have`},
		{"enum of text", "color", `"string"`, "RED", `{"color":"RED"}`},
		{"enum as text", "text", colorType, "BLUE", `{"text":"BLUE"}`},
		{"record", "item", itemType, map[string]any{"sku": "a", "price": 1.5}, `{"item":{"sku":"a","price":1.5}}`},
		{"record of zeros", "item", itemType, map[string]any{"sku": "", "price": 0.0}, `{"item":{}}`},
		{"record in text", "text", itemType, map[string]any{"sku": "", "price": 0.0}, `$.text: is record shop.v1.Item, which does not fit string shop.v1.Order.text`},
		{"records", "items", `{"type":"array","items":` + itemType + `}`, []any{map[string]any{"sku": "a", "price": 1.5}, map[string]any{"sku": "", "price": 0.0}},
			`{"items":[{"sku":"a","price":1.5},{}]}`},
		{"numbers", "numbers", `{"type":"array","items":"long"}`, []int64{1, 0, -300}, `{"numbers":[1,0,-300]}`},
		{"a number too large", "numbers", `{"type":"array","items":"long"}`, []int64{1, 1 << 40}, `$.numbers[1]: is 1099511627776, which int32 cannot hold`},
		{"nulls in a list", "tags", `{"type":"array","items":["null","string"]}`, []any{"a", nil}, `$.tags[1]: is null, and there is no null`},
		{"texts", "tags", `{"type":"array","items":["null","string"]}`, []any{"a", ""}, `{"tags":["a",""]}`},
		{"no texts", "tags", `["null",{"type":"array","items":"string"}]`, nil, `{}`},
		{"one for many", "tags", `"string"`, "a", `$.tags: is string, which does not fit repeated string shop.v1.Order.tags`},
		{"many for one", "text", `{"type":"array","items":"string"}`, []string{"a"}, `$.text: is array, which does not fit string shop.v1.Order.text`},
		{"enums", "colors", `{"type":"array","items":` + colorType + `}`, []string{"GREEN"}, `{"colors":["GREEN"]}`},
		{"map", "counts", `{"type":"map","values":"int"}`, map[string]any{"a": 1}, `{"counts":{"a":"1"}}`},
		{"map of zeros", "counts", `{"type":"map","values":"int"}`, map[string]any{"": 0}, `{"counts":{"":"0"}}`},
		{"map of records", "by_number", `{"type":"map","values":` + itemType + `}`, map[string]any{"-3": map[string]any{"sku": "a", "price": 0.0}}, `{"byNumber":{"-3":{"sku":"a"}}}`},
		{"key that is no number", "by_number", `{"type":"map","values":` + itemType + `}`, map[string]any{"x": map[string]any{"sku": "a", "price": 0.0}}, `$.by_number["x"]: has a key that is no int32`},
		{"key of two", "flags", `{"type":"map","values":"string"}`, map[string]any{"true": "x"}, `{"flags":{"true":"x"}}`},
		{"null in a map", "counts", `{"type":"map","values":["null","int"]}`, map[string]any{"a": nil}, `$.counts["a"]: is null`},
		{"wrapper", "note", `["null","string"]`, "", `{"note":""}`},
		{"wrapper of null", "note", `["null","string"]`, nil, `{}`},
		{"wrapper of a number", "amount", `"int"`, 5, `{"amount":"5"}`},
		{"wrapper of another", "amount", `"string"`, "x", `$.amount: is string, which does not fit int64 google.protobuf.Int64Value.value`},
		{"millis", "at", logical("long", "timestamp-millis"), at, `{"at":"2026-01-31T12:30:15.250Z"}`},
		{"micros before 1970", "at", logical("long", "timestamp-micros"), time.Unix(-1, 999_999_000).UTC(), `{"at":"1969-12-31T23:59:59.999999Z"}`},
		{"nanos", "at", logical("long", "timestamp-nanos"), at, `{"at":"2026-01-31T12:30:15.250Z"}`},
		{"local", "at", logical("long", "local-timestamp-millis"), at, `{"at":"2026-01-31T12:30:15.250Z"}`},
		{"date", "at", logical("int", "date"), at.Truncate(24 * time.Hour), `{"at":"2026-01-31T00:00:00Z"}`},
		{"date as text", "text", logical("int", "date"), at.Truncate(24 * time.Hour), `{"text":"2026-01-31"}`},
		{"timestamp as text", "text", logical("long", "timestamp-millis"), at, `{"text":"2026-01-31T12:30:15.25Z"}`},
		{"local as text", "text", logical("long", "local-timestamp-millis"), at, `{"text":"2026-01-31T12:30:15.25"}`},
		{"timestamp as number", "i64", logical("long", "timestamp-millis"), time.UnixMilli(5), `{"i64":"5"}`},
		{"a number is no timestamp", "at", `"long"`, 5, `$.at: is long, which does not fit google.protobuf.Timestamp shop.v1.Order.at`},
		{"beyond timestamps", "at", logical("long", "timestamp-millis"), int64(math.MaxInt64), `which is not in the years 1 to 9999`},
		{"time", "since", logical("int", "time-millis"), 90_500, `{"since":"90.500s"}`},
		{"time as text", "text", logical("long", "time-micros"), int64(3_600_000_001), `{"text":"01:00:00.000001"}`},
		{"no time", "since", logical("int", "time-millis"), -1, `$.since: is -1 in int (time-millis), which is no time of a day`},
		{"uuid", "id", logical("string", "uuid"), "7c4d5e2a-6b1f-4a57-9b62-2f4a63e1a2b3", `{"id":"7c4d5e2a-6b1f-4a57-9b62-2f4a63e1a2b3"}`},
		{"fixed uuid", "id", `{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}`, "7c4d5e2a-6b1f-4a57-9b62-2f4a63e1a2b3", `{"id":"7c4d5e2a-6b1f-4a57-9b62-2f4a63e1a2b3"}`},
		{"decimal", "text", `{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`, big.NewRat(-1230, 100), `{"text":"-12.30"}`},
		{"small decimal", "text", `{"type":"fixed","size":4,"name":"D","logicalType":"decimal","precision":9,"scale":3}`, big.NewRat(5, 1000), `{"text":"0.005"}`},
		{"decimal as number", "d", `{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`, big.NewRat(1, 2), `$.d: is bytes (decimal), which does not fit double shop.v1.Order.d`},
		{"recursion", "tree", treeType, map[string]any{"name": "a", "below": []any{map[string]any{"name": "b", "below": []any{}}}}, `{"tree":{"name":"a","below":[{"name":"b"}]}}`},
		{"union of numbers", "i64", `["int","long"]`, int64(1 << 40), `{"i64":"1099511627776"}`},
		{"union whose type does not fit", "i64", `["string","long"]`, "x", `$.i64: is string, which does not fit int64 shop.v1.Order.i64`},
		{"oneof by name", "payment", payment, map[string]any{"shop.v1.Cash": map[string]any{"cents": 5}}, `{"cash":{"cents":"5"}}`},
		{"oneof by kind", "payment", payment, "V1", `{"voucher":"V1"}`},
		{"oneof of null", "payment", payment, nil, `{}`},
		{"oneof by kind, numbers", "value", `["long","double"]`, 0.5, `{"fraction":0.5}`},
		{"oneof of zero", "value", `["long","double"]`, int64(0), `{"whole":"0"}`},
		{"oneof without such a member", "value", `["long","boolean"]`, true, `$.value: is boolean, which is not one member of oneof shop.v1.Order.value`},
		{"member of a oneof", "cash", `["null",{"type":"record","name":"Any","fields":[{"name":"cents","type":"int"}]}]`, map[string]any{"cents": 5}, `{"cash":{"cents":"5"}}`},
		{"unknown", "colour", `"string"`, "x", `$.colour: is no field of shop.v1.Order`},
		{"unknown, inside", "item", `{"type":"record","name":"Item","fields":[{"name":"weight","type":"int"}]}`, map[string]any{"weight": 1}, `$.item.weight: is no field of shop.v1.Item`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := payload.FramedAvro(fixedSchemas{avroSchema(one(c.field, c.typ))}, order, payload.RefuseUnknown)
			message, err := d.Decode(t.Context(), encode(t, one(c.field, c.typ), map[string]any{c.field: c.value}))
			if strings.HasPrefix(c.want, "{") {
				if err != nil {
					t.Fatal(err)
				}
				sameJSON(t, asJSON(t, order, message), c.want)
				return
			}
			var wrong *payload.Error
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(wrong.Path, "$") {
				t.Errorf("the error is %v (%T), want %s", err, err, c.want)
			}
		})
	}
}

// The order of fields in the schema of a writer, and what is left out, make no other message of the same content.
func TestAvroIsWrittenInTheOrderOfTheMessage(t *testing.T) {
	t.Parallel()
	order := messages(t, everyKind).ByName("Order")
	var all [][]byte
	for _, fields := range []string{
		`{"name":"id","type":"string"},{"name":"maybe","type":["null","int"]},{"name":"item","type":` + itemType + `}`,
		`{"name":"item","type":` + itemType + `},{"name":"later","type":` + payment + `},{"name":"gone","type":{"type":"map","values":{"type":"array","items":"Item"}}},{"name":"maybe","type":"long"},{"name":"id","type":"string"}`,
	} {
		schema := `{"type":"record","name":"O","fields":[` + fields + `]}`
		value := encode(t, schema, map[string]any{
			"id": "x", "maybe": 3, "item": map[string]any{"sku": "a", "price": 2.0}, "later": map[string]any{"Cash": map[string]any{"cents": 5}},
			"gone": map[string]any{"a": []any{map[string]any{"sku": "a", "price": 2.0}}},
		})
		message, err := payload.FramedAvro(fixedSchemas{avroSchema(schema)}, order, payload.IgnoreUnknown).Decode(t.Context(), value)
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, asJSON(t, order, message), `{"id":"x","maybe":3,"item":{"sku":"a","price":2}}`)
		all = append(all, message)
	}
	if diff := cmp.Diff(all[0], all[1]); diff != "" {
		t.Error(diff)
	}
}

func TestAvroSetsOneMemberOfAOneof(t *testing.T) {
	t.Parallel()
	order := messages(t, everyKind).ByName("Order")
	schema := `{"type":"record","name":"O","fields":[{"name":"voucher","type":["null","string"]},{"name":"cash","type":["null",{"type":"record","name":"Cash","fields":[{"name":"cents","type":"int"}]}]}]}`
	d := payload.FramedAvro(fixedSchemas{avroSchema(schema)}, order, payload.RefuseUnknown)
	cash := map[string]any{"cents": 5}
	message, err := d.Decode(t.Context(), encode(t, schema, map[string]any{"voucher": nil, "cash": cash}))
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, asJSON(t, order, message), `{"cash":{"cents":"5"}}`)
	if _, err = d.Decode(t.Context(), encode(t, schema, map[string]any{"voucher": "x", "cash": cash})); err == nil || !strings.Contains(err.Error(), "$.cash: is set together with voucher") {
		t.Error(err)
	}
	twice := `{"type":"record","name":"O","fields":[{"name":"customer_name","type":"string"},{"name":"customerName","type":"string"}]}`
	d = payload.FramedAvro(fixedSchemas{avroSchema(twice)}, order, payload.RefuseUnknown)
	if _, err = d.Decode(t.Context(), encode(t, twice, map[string]any{"customer_name": "x", "customerName": "y"})); err == nil || !strings.Contains(err.Error(), "$.customerName: is field customer_name") {
		t.Error(err)
	}
}

func TestAvroRequiredFields(t *testing.T) {
	t.Parallel()
	of := messages(t, `syntax = "proto2"; package p; message M { required string a = 1; optional group G = 2 { optional int32 n = 1; } optional string b = 3; }`).ByName("M")
	for schema, want := range map[string]string{
		`{"type":"record","name":"M","fields":[{"name":"b","type":"string"}]}`: "lacks a, which p.M requires",
		`{"type":"record","name":"M","fields":[{"name":"a","type":"string"},{"name":"b","type":"string"},{"name":"g","type":{"type":"record","name":"G","fields":[{"name":"n","type":"int"}]}}]}`: "",
	} {
		value := encode(t, schema, map[string]any{"a": "", "b": "", "g": map[string]any{"n": 5}})
		message, err := payload.FramedAvro(fixedSchemas{avroSchema(schema)}, of, payload.RefuseUnknown).Decode(t.Context(), value)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %v, want %s", err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, asJSON(t, of, message), `{"a":"","b":"","g":{"n":5}}`)
	}
}

func TestAvroReferences(t *testing.T) {
	t.Parallel()
	order := messages(t, everyKind).ByName("Order")
	item := strings.Replace(itemType, `"name":"Item"`, `"name":"Item","namespace":"shop.v1"`, 1)
	own := one("item", `"Item"`)
	value := encode(t, one("item", item), map[string]any{"item": map[string]any{"sku": "a", "price": 2.0}})
	message, err := payload.FramedAvro(fixedSchemas{avroSchema(own, item)}, order, payload.RefuseUnknown).Decode(t.Context(), value)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, asJSON(t, order, message), `{"item":{"sku":"a","price":2}}`)
	if _, err := payload.FramedAvro(fixedSchemas{avroSchema(own)}, order, payload.RefuseUnknown).Decode(t.Context(), value); !errors.As(err, new(*payload.Error)) {
		t.Errorf("without what it refers to the schema gives %v", err)
	}
}
