package payload_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	protobuf "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"kafkagrpc/internal/payload"
)

// bare takes values as they are.
type bare struct{}

func (bare) Ready([]byte) bool                                      { return true }
func (bare) Decode(_ context.Context, value []byte) ([]byte, error) { return value, nil }
func (bare) Encode(message []byte) ([]byte, error)                  { return message, nil }
func protoSchema(text string) *payload.Schema {
	return &payload.Schema{ID: 7, Format: payload.FormatProtobuf, Text: text}
}

func TestFramedProtobuf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, schema string
		want         protoreflect.FullName
		value        []byte
		message, err string
	}{
		{"first", everyKind, "shop.v1.Outer", []byte{0, 0, 0, 0, 7, 0, 'm'}, "m", ""},
		{"first, in full", everyKind, "shop.v1.Outer", []byte{0, 0, 0, 0, 7, 2, 0, 'm'}, "m", ""},
		{"later", everyKind, "shop.v1.Item", []byte{0, 0, 0, 0, 7, 2, 2}, "", ""},
		{"in another, behind a map", everyKind, "shop.v1.Outer.Second", []byte{0, 0, 0, 0, 7, 4, 0, 2, 'm'}, "m", ""},
		{"of imports that nobody has", `syntax = "proto3"; import "x/y.proto"; message M { x.Y y = 1; }`, "M", []byte{0, 0, 0, 0, 7, 0, 'm'}, "m", ""},
		{"another", everyKind, "shop.v1.Item", []byte{0, 0, 0, 0, 7, 0, 'm'}, "", "it is a shop.v1.Outer by its schema 7, not a shop.v1.Item"},
		{"none", everyKind, "shop.v1.Item", []byte{0, 0, 0, 0, 7, 2, 200, 1, 'm'}, "", "its schema 7 has no message at [100]"},
		{"no indexes", everyKind, "shop.v1.Item", []byte{0, 0, 0, 0, 7}, "", "it has no message indexes"},
		{"indexes that are cut", everyKind, "shop.v1.Item", []byte{0, 0, 0, 0, 7, 4, 0}, "", "it has no message indexes"},
		{"too many indexes", everyKind, "shop.v1.Item", append([]byte{0, 0, 0, 0, 7}, binary.AppendVarint(nil, 1<<40)...), "", "it has no message indexes"},
		{"negative index", everyKind, "shop.v1.Item", []byte{0, 0, 0, 0, 7, 2, 1}, "", "it has no message indexes"},
		{"short", everyKind, "shop.v1.Item", []byte{0, 0, 0}, "", "it has 3 bytes, too few"},
		{"no frame", everyKind, "shop.v1.Item", []byte(`{"a": 1}`), "", "it begins with byte 123, and not with 0"},
		{"unknown id", everyKind, "shop.v1.Item", []byte{0, 0, 0, 1, 148, 0}, "", "its schema 404 is unknown"},
		{"broken schema", "syntax = ;", "shop.v1.Item", []byte{0, 0, 0, 0, 7, 0}, "", "its schema 7 cannot be used: schema.proto:1:10"},
		{"empty schema", "", "shop.v1.Item", []byte{0, 0, 0, 0, 7, 0}, "", "its schema 7 cannot be used: it has no message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			message, err := payload.FramedProtobuf(fixedSchemas{protoSchema(c.schema)}, c.want, bare{}).Decode(t.Context(), c.value)
			if c.err == "" && (err != nil || string(message) != c.message) {
				t.Errorf("it is %q, %v", message, err)
			}
			if c.err != "" && (!errors.As(err, new(*payload.Error)) || !strings.HasPrefix(err.Error(), c.err)) {
				t.Errorf("the error is %v, want %s", err, c.err)
			}
		})
	}
}

// A registry that cannot be asked says nothing of the value; neither does it make a value wait that has no frame.
func TestFramedValuesWaitForTheirSchema(t *testing.T) {
	t.Parallel()
	schemas := fixedSchemas{avroSchema(`"string"`)}
	down := []byte{0, 0, 0, 1, 247, 0}
	for name, d := range map[string]payload.Decoder{
		"avro": payload.FramedAvro(schemas, messages(t, everyKind).ByName("Item"), payload.RefuseUnknown), "protobuf": payload.FramedProtobuf(schemas, "shop.v1.Item", bare{}),
	} {
		if d.Ready(down) {
			t.Errorf("%s is ready for a value whose schema is not there", name)
		}
		if _, err := d.Decode(t.Context(), down); !errors.Is(err, errDown) || errors.As(err, new(*payload.Error)) {
			t.Errorf("%s: %v", name, err)
		}
		for _, value := range [][]byte{nil, []byte("{}"), {0, 0, 0, 0, 7}} {
			if !d.Ready(value) {
				t.Errorf("%s is not ready for %q", name, value)
			}
		}
		if _, err := d.Decode(t.Context(), framedValue([]byte{2, 'a'})); name == "protobuf" && (err == nil || err.Error() != "its schema 7 is of Avro, not of Protobuf") ||
			name == "avro" && (err == nil || err.Error() != "it is string by its schema 7, and not a record") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFramedJSON(t *testing.T) {
	t.Parallel()
	got, err := payload.FramedJSON(fixedSchemas{}, bare{}).Decode(t.Context(), framedValue([]byte(`{}`)))
	if err != nil || string(got) != "{}" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := payload.FramedJSON(fixedSchemas{}, bare{}).Decode(t.Context(), []byte(`{}`)); !errors.As(err, new(*payload.Error)) {
		t.Error(err)
	}
	value, err := payload.FramedJSONEncoder(bare{}, func() *payload.Schema { return &payload.Schema{ID: 258, Format: payload.FormatJSON} }).Encode([]byte(`{}`))
	if diff := cmp.Diff([]byte("\x00\x00\x00\x01\x02{}"), value); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestFramedProtobufEncoder(t *testing.T) {
	t.Parallel()
	for name, want := range map[protoreflect.FullName]string{
		"shop.v1.Outer": "\x00\x00\x00\x00\x07\x00m", "shop.v1.Item": "\x00\x00\x00\x00\x07\x02\x02m", "shop.v1.Outer.Second": "\x00\x00\x00\x00\x07\x04\x00\x02m",
	} {
		value, err := payload.FramedProtobufEncoder(name, bare{}, func() *payload.Schema { return protoSchema(everyKind) }).Encode([]byte("m"))
		if diff := cmp.Diff([]byte(want), value); diff != "" || err != nil {
			t.Error(name, diff, err)
		}
	}
	if _, err := payload.FramedProtobufEncoder("shop.v1.Gone", bare{}, func() *payload.Schema { return protoSchema(everyKind) }).Encode(nil); err == nil {
		t.Error("a message that the schema lacks was written")
	}
}

func avroEncode(t *testing.T, schema, message string) ([]byte, error) {
	t.Helper()
	order := messages(t, everyKind).ByName("Order")
	m := dynamicpb.NewMessage(order)
	if err := protojson.Unmarshal([]byte(message), m); err != nil {
		t.Fatal(err)
	}
	encoded, err := protobuf.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s := avroSchema(schema)
	return payload.FramedAvroEncoder(order, func() *payload.Schema { return s }).Encode(encoded)
}

func TestAvroEncoder(t *testing.T) {
	t.Parallel()
	order := messages(t, everyKind).ByName("Order")
	for _, c := range []struct{ name, field, typ, message, want string }{ // want: JSON where it is another one, or a part of the error
		{"string", "id", `"string"`, `{"id":"x"}`, ""},
		{"nothing", "id", `"string"`, `{}`, ""},
		{"null", "maybe", `["null","int"]`, `{}`, ""},
		{"seen zero", "maybe", `["null","int"]`, `{"maybe":0}`, ""},
		{"null behind", "item", `["` + "string" + `","null"]`, `{}`, ""},
		{"default", "maybe", `"int","default":5`, `{}`, `{"maybe":5}`},
		{"default of a record", "item", itemType + `,"default":{"sku":"a","price":2}`, `{}`, `{"item":{"sku":"a","price":2}}`},
		{"no default", "maybe", `"int"`, `{}`, "$.maybe: is not set"},
		{"long", "u64", `"long"`, `{"u64":"5"}`, ""},
		{"too long", "u64", `"long"`, `{"u64":"18446744073709551615"}`, "$.u64: is 18446744073709551615, which long cannot hold"},
		{"long in int", "i64", `"int"`, `{"i64":"2147483648"}`, "$.i64: is 2147483648, which int cannot hold"},
		{"double in float", "d", `"float"`, `{"d":0.1}`, "$.d: is 0.1, which float cannot hold"},
		{"double", "d", `["float","double"]`, `{"d":0.1}`, ""},
		{"boolean", "b", `"boolean"`, `{"b":true}`, ""},
		{"bytes", "raw", `["null","bytes"]`, `{"raw":"AQI="}`, ""},
		{"fixed", "raw", `{"type":"fixed","name":"F","size":2}`, `{"raw":"AQI="}`, ""},
		{"fixed of another size", "raw", `{"type":"fixed","name":"F","size":3}`, `{"raw":"AQI="}`, "$.raw: has 2 bytes, and fixed shop.v1.F has 3"},
		{"enum", "color", `{"type":"enum","name":"C","symbols":["RED","NONE"]}`, `{"color":"RED"}`, ""},
		{"enum that is not there", "color", `{"type":"enum","name":"C","symbols":["RED","NONE"]}`, `{"color":"GREEN"}`, `$.color: is "GREEN", which enum shop.v1.C does not have`},
		{"enum without a name", "color", `"string"`, `{"color":77}`, "$.color: is 77, which has no name"},
		{"enum among text", "color", `["string",{"type":"enum","name":"C","symbols":["RED"]}]`, `{"color":"RED"}`, ""},
		{"record", "item", `["null",` + itemType + `]`, `{"item":{"sku":"a","price":1.5}}`, ""},
		{"records", "items", `{"type":"array","items":["null",` + itemType + `]}`, `{"items":[{"sku":"a"},{}]}`, ""},
		{"packed", "numbers", `["null",{"type":"array","items":"int"}]`, `{"numbers":[1,-2]}`, ""},
		{"map", "counts", `{"type":"map","values":"long"}`, `{"counts":{"b":"1","a":"2"}}`, ""},
		{"map of numbers", "by_number", `{"type":"map","values":` + itemType + `}`, `{"byNumber":{"-3":{"sku":"a"}}}`, ""},
		{"wrapper", "note", `["null","string"]`, `{"note":""}`, ""},
		{"millis", "at", logical("long", "timestamp-millis"), `{"at":"2026-01-31T12:30:15.250Z"}`, ""},
		{"what is finer", "at", logical("long", "timestamp-millis"), `{"at":"2026-01-31T12:30:15.250999Z"}`, `{"at":"2026-01-31T12:30:15.250Z"}`},
		{"nanos too far", "at", logical("long", "timestamp-nanos"), `{"at":"9999-01-31T12:30:15Z"}`, "$.at: is google.protobuf.Timestamp, which does not fit long (timestamp-nanos)"},
		{"date before 1970", "at", logical("int", "date"), `{"at":"1969-12-31T12:00:00Z"}`, `{"at":"1969-12-31T00:00:00Z"}`},
		{"time", "since", logical("int", "time-millis"), `{"since":"90.500s"}`, ""},
		{"a day", "since", logical("int", "time-millis"), `{"since":"86400s"}`, "$.since: is google.protobuf.Duration, which does not fit"},
		{"decimal", "text", `{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`, `{"text":"-12.30"}`, ""},
		{"decimal of 128", "text", `{"type":"bytes","logicalType":"decimal","precision":9,"scale":0}`, `{"text":"128"}`, ""},
		{"decimal of -128", "text", `{"type":"fixed","size":4,"name":"D","logicalType":"decimal","precision":9,"scale":0}`, `{"text":"-128"}`, ""},
		{"too fine a decimal", "text", `{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`, `{"text":"0.001"}`, "$.text: is no decimal number"},
		{"no decimal", "text", `{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`, `{"text":"1e5"}`, "$.text: is no decimal number"},
		{"uuid", "text", `{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}`, `{"text":"7c4d5e2a-6b1f-4a57-9b62-2f4a63e1a2b3"}`, ""},
		{"recursion", "tree", treeType, `{"tree":{"name":"a","below":[{"name":"b"}]}}`, ""},
		{"oneof", "payment", payment, `{"cash":{"cents":"5"}}`, ""},
		{"oneof of text", "payment", payment, `{"voucher":"x"}`, ""},
		{"oneof of nothing", "payment", payment, `{}`, ""},
		{"what the schema lacks", "id", `"string"`, `{"id":"x","b":true}`, "$.b: is set, and no field of record shop.v1.Order"},
		{"what does not fit", "items", `"string"`, `{"items":[{}]}`, "$.items: is repeated shop.v1.Item, which does not fit string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			value, err := avroEncode(t, one(c.field, c.typ), c.message)
			if c.want != "" && !strings.HasPrefix(c.want, "{") {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("the error is %v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			message, err := payload.FramedAvro(fixedSchemas{avroSchema(one(c.field, c.typ))}, order, payload.RefuseUnknown).Decode(t.Context(), value)
			if err != nil {
				t.Fatal(err)
			}
			want := c.want
			if want == "" {
				want = c.message
			}
			sameJSON(t, asJSON(t, order, message), want)
		})
	}
}

// What a value claims costs neither memory nor time.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	order := messages(t, everyKind).ByName("Order")
	huge := func(counts ...int64) (value []byte) {
		for _, n := range counts {
			value = binary.AppendVarint(value, n)
		}
		return framedValue(value)
	}
	wide := `{"type":"record","name":"R0","fields":[{"name":"a","type":"null"}]}`
	for i := range 18 { // each twice the one before
		name := string(rune('A' + i))
		wide = `{"type":"record","name":"` + name + `","fields":[{"name":"a","type":` + wide + `},{"name":"b","type":"` + map[bool]string{true: "R0", false: string(rune('A' + i - 1))}[i == 0] + `"}]}`
	}
	for name, c := range map[string]struct {
		schema string
		value  []byte
	}{
		"many nothings":       {one("x", `{"type":"array","items":"null"}`), huge(1 << 40)},
		"many more nothings":  {one("x", `{"type":"array","items":"null"}`), huge(90_000, 90_000)},
		"nothings of records": {one("items", `{"type":"array","items":{"type":"record","name":"E","fields":[]}}`), huge(-1<<62, 5)},
		"the least number":    {one("numbers", `{"type":"array","items":"int"}`), huge(-1<<63, 5)},
		"a long text":         {one("id", `"string"`), huge(1 << 62)},
		"a negative text":     {one("id", `"string"`), huge(-1)},
		"twice and twice":     {one("x", wide), huge(0)},
		"deep":                {one("tree", treeType), framedValue(bytes.Repeat([]byte{0, 2}, 5<<20))},
		"deep, passed over":   {one("x", treeType), framedValue(bytes.Repeat([]byte{0, 2}, 5<<20))},
		"blocks of a list":    {one("numbers", `{"type":"array","items":"int"}`), framedValue(bytes.Repeat([]byte{1, 0, 0}, 3<<20))},
		"number of 65 bits":   {one("i64", `"long"`), framedValue(bytes.Repeat([]byte{0xff}, 11))},
		"branch":              {one("maybe", `["null","int"]`), huge(2)},
		"symbol":              {one("color", colorType), huge(1 << 30)},
		"large decimal":       {one("text", `{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`), framedValue(append(binary.AppendVarint(nil, 4<<20), make([]byte, 4<<20)...))},
		"no UTF-8":            {one("id", `"string"`), framedValue([]byte{2, 0xff})},
		"more than a record":  {one("id", `"string"`), framedValue([]byte{0, 0})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := payload.FramedAvro(fixedSchemas{avroSchema(c.schema)}, order, payload.IgnoreUnknown).Decode(ctx, c.value)
				done <- err
			}()
			select {
			case err := <-done:
				if !errors.As(err, new(*payload.Error)) {
					t.Errorf("the error is %v", err)
				} else {
					t.Log(len(err.Error()), err.Error()[:min(200, len(err.Error()))])
				}
			case <-ctx.Done():
				t.Error("it takes for ever")
			}
		})
	}
}

// Any bytes make a message or an *Error, and no more of a message than there are bytes for.
func FuzzFramedAvro(f *testing.F) {
	order := messages(f, everyKind).ByName("Order")
	schema := `{"type":"record","name":"Order","namespace":"shop.v1","fields":[
		{"name":"id","type":"string"},{"name":"i32","type":["null","int","double","string"]},{"name":"items","type":{"type":"array","items":` + itemType + `}},
		{"name":"counts","type":{"type":"map","values":"long"}},{"name":"tree","type":["null",` + treeType + `]},{"name":"payment","type":` + payment + `},
		{"name":"at","type":` + logical("long", "timestamp-micros") + `},{"name":"text","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
		{"name":"numbers","type":{"type":"array","items":"float"}},{"name":"color","type":` + colorType + `},{"name":"gone","type":{"type":"array","items":["null","boolean"]}}]}`
	d := payload.FramedAvro(fixedSchemas{avroSchema(schema)}, order, payload.IgnoreUnknown)
	f.Add(encode(f, schema, map[string]any{
		"id": "x", "i32": 5, "items": []any{map[string]any{"sku": "a", "price": 1.5}}, "counts": map[string]any{"a": 1},
		"tree": map[string]any{"name": "a", "below": []any{}}, "payment": "x", "at": time.UnixMicro(5), "text": "1.5", "numbers": []float32{0, 1}, "color": "GREEN", "gone": []any{nil, true},
	}))
	f.Add(framedValue(nil))
	f.Add([]byte{0, 0, 0, 1})
	f.Add(framedValue(bytes.Repeat([]byte{2}, 300)))
	f.Add(framedValue(bytes.Repeat([]byte{0x80}, 300)))
	f.Add(framedValue(append([]byte{0, 0}, bytes.Repeat([]byte{1, 2, 0}, 100)...)))
	f.Fuzz(func(t *testing.T, value []byte) {
		message, err := d.Decode(context.Background(), value)
		if err != nil {
			if !errors.As(err, new(*payload.Error)) {
				t.Fatal(err)
			}
			return
		}
		if len(message) > 200+20*len(value) {
			t.Errorf("%d bytes became %d", len(value), len(message))
		}
		m := dynamicpb.NewMessage(order)
		if err := protobuf.Unmarshal(message, m); err != nil {
			t.Fatalf("what was decoded is no message: %v", err)
		}
		if len(m.GetUnknown()) > 0 {
			t.Error("what was decoded has fields that the message lacks")
		}
	})
}

// Any bytes make a frame or an *Error.
func FuzzFramedProtobuf(f *testing.F) {
	d := payload.FramedProtobuf(fixedSchemas{protoSchema(everyKind)}, "shop.v1.Item", bare{})
	f.Add([]byte{0, 0, 0, 0, 7, 2, 2, 1})
	f.Add([]byte{0, 0, 0, 0, 7, 0})
	f.Add([]byte{0, 0, 0, 0, 7, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, value []byte) {
		if _, err := d.Decode(context.Background(), value); err != nil && !errors.As(err, new(*payload.Error)) && !errors.Is(err, errDown) {
			t.Fatal(err)
		}
	})
}
