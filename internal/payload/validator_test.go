package payload_test

import (
	"encoding/binary"
	"errors"
	"math"
	"regexp"
	"strings"
	"testing"

	"kafkagrpc/internal/payload"
)

func TestValidators(t *testing.T) {
	t.Parallel()
	f := func(v float64) *float64 { return &v }
	order := messages(t, everyKind).ByName("Order")
	schema := func(format payload.Format, text string) payload.Validator {
		s := &payload.Schema{Format: format, Text: text}
		return payload.FollowSchema(func() *payload.Schema { return s })
	}
	record := schema(payload.FormatAvro, `{"type":"record","name":"R","fields":[{"name":"id","type":"string"},{"name":"n","type":["null","int"]}]}`)
	object := schema(payload.FormatJSON, `{"type":"object","properties":{"items":{"type":"array","items":{"type":"integer"}}},"required":["items"],"$defs":{}}`)
	big := func(bits uint64) string { return string(binary.BigEndian.AppendUint64(nil, bits)) }
	small := func(bits uint32) string { return string(binary.BigEndian.AppendUint32(nil, bits)) }
	for name, c := range map[string]struct {
		v     payload.Validator
		value string
		wrong string // a part of the error; "": it fits
	}{
		"text":                     {payload.Text{}, "grüße", ""},
		"empty text":               {payload.Text{}, "", ""},
		"no UTF-8":                 {payload.Text{}, "\xff", "no text in UTF-8"},
		"characters are counted":   {payload.Text{Min: 5, Max: 5}, "grüße", ""},
		"too short":                {payload.Text{Min: 6}, "grüße", "5 characters, less than 6"},
		"too long":                 {payload.Text{Max: 4}, "grüße", "5 characters, more than 4"},
		"pattern":                  {payload.Text{Pattern: regexp.MustCompile(`^[a-z]+-\d+$`)}, "a-1", ""},
		"no pattern":               {payload.Text{Pattern: regexp.MustCompile(`^[a-z]+-\d+$`)}, "a1", "does not match ^[a-z]+-\\d+$"},
		"UTF-16":                   {payload.Text{UTF16: true, Min: 2, Max: 2}, "\x00h\x00i", ""},
		"half of a pair":           {payload.Text{UTF16: true}, "\xd8\x00", "no text in UTF-16"},
		"odd":                      {payload.Text{UTF16: true}, "h", "no text in UTF-16"},
		"int32":                    {payload.Number{Bits: 32}, "-2147483648", ""},
		"too large for 32 bits":    {payload.Number{Bits: 32}, "2147483648", "no whole number of 32 bits in text"},
		"int64":                    {payload.Number{Bits: 64}, "2147483648", ""},
		"no number":                {payload.Number{Bits: 64}, "1.5", "no whole number of 64 bits"},
		"nothing":                  {payload.Number{Bits: 64}, "", "no whole number of 64 bits"},
		"binary":                   {payload.Number{Bits: 32, Binary: true, Range: payload.Range{Max: f(-1)}}, small(math.MaxUint32), ""},
		"binary of another length": {payload.Number{Bits: 32, Binary: true}, big(1), "in binary form"},
		"binary of 64 bits":        {payload.Number{Bits: 64, Binary: true, Multiple: 5}, big(15), ""},
		"no multiple":              {payload.Number{Bits: 64, Multiple: 5}, "16", "no multiple of 5"},
		"in range":                 {payload.Number{Bits: 32, Range: payload.Range{Min: f(0), Max: f(10)}}, "10", ""},
		"at an open end":           {payload.Number{Bits: 32, Range: payload.Range{Min: f(0), Max: f(10), UnderMax: true}}, "10", "out of range"},
		"at an open beginning":     {payload.Number{Bits: 32, Range: payload.Range{Min: f(0), OverMin: true}}, "0", "out of range"},
		"float":                    {payload.Number{Bits: 32, Float: true}, "1.5e3", ""},
		"float, no number":         {payload.Number{Bits: 64, Float: true}, "NaN", "no number of 64 bits"},
		"double in binary":         {payload.Number{Bits: 64, Float: true, Binary: true, Range: payload.Range{Min: f(1)}}, big(math.Float64bits(1.5)), ""},
		"binary, not a number":     {payload.Number{Bits: 64, Float: true, Binary: true}, big(math.Float64bits(math.NaN())), "out of range"},
		"Avro":                     {record, "\x04hi\x02\x02", ""},
		"Avro that is cut":         {record, "\x04hi\x02", "$.n"},
		"Avro with more":           {record, "\x04hi\x00\x00", "1 bytes follow"},
		"JSON":                     {object, `{"items": [1, 2]}`, ""},
		"JSON, wrong inside":       {object, `{"items": [1, "x"]}`, "$.items.1: it does not fit `type`"},
		"JSON, missing":            {object, `{}`, "it does not fit `required`"},
		"no JSON":                  {object, `{"items": [1]} x`, "it is no JSON"},
		"a schema of a file":       {schema(payload.FormatJSON, `{"$ref":"file:///etc/passwd"}`), `{}`, "only what is in it is looked at"},
		"no schema":                {schema(payload.FormatJSON, `{"type":"thing"}`), `{}`, "cannot be used"},
		"a schema of protos":       {schema(payload.FormatProtobuf, `syntax = "proto3"; message M {}`), ``, "is of Protobuf"},
		"protobuf":                 {payload.NewMessage(order), "\x0a\x01x\xfa\x01\x00", ""},
		"no protobuf":              {payload.NewMessage(order), "\x0a\x05x", "it is no shop.v1.Order"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.v.Validate([]byte(c.value))
			switch {
			case c.wrong == "" && err != nil:
				t.Error(err)
			case c.wrong != "" && (!errors.As(err, new(*payload.Error)) || !strings.Contains(err.Error(), c.wrong)):
				t.Errorf("got %v, want %s", err, c.wrong)
			case err != nil && len(c.value) > 3 && strings.Contains(err.Error(), c.value):
				t.Errorf("the value is in %v", err)
			}
		})
	}
}
