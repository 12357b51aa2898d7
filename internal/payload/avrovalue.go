package payload

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// single writes one value: the reverse of what avroMessage does with one.
func (w *avroWriter) single(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) error {
	if of.Message() != nil && wraps(of.Message()) {
		of = of.Message().Fields().ByNumber(1)
		v = v.Message().Get(of)
	}
	switch t.kind {
	case "boolean":
		if of.Kind() != protoreflect.BoolKind {
			return w.misfit(t, of)
		}
		w.out = append(w.out, map[bool]byte{true: 1}[v.Bool()])
		return nil
	case "int", "long", "float", "double":
		return w.number(t, v, of)
	case "string", "enum":
		return w.text(t, v, of)
	case "bytes", "fixed":
		return w.binary(t, v, of)
	case "record":
		if of.Message() != nil {
			return w.record(t, v.Message())
		}
	}
	return w.misfit(t, of)
}

func (w *avroWriter) number(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) error {
	n, err := w.numberOf(t, v, of)
	if err != nil {
		return err
	}
	switch t.kind {
	case "int", "long":
		kind := map[string]protoreflect.Kind{"int": protoreflect.Int32Kind, "long": protoreflect.Int64Kind}[t.kind]
		if !n.whole(kind) {
			return w.fail("is %s, which %s cannot hold", n, t)
		}
		w.long(n.integer)
		return nil
	}
	if n.isWhole {
		if n.fraction = float64(n.integer); n.fraction >= 1<<63 || int64(n.fraction) != n.integer {
			return w.fail("is %s, which %s cannot hold", n, t)
		}
	}
	if t.kind == "double" {
		w.out = binary.LittleEndian.AppendUint64(w.out, math.Float64bits(n.fraction))
		return nil
	}
	narrow := float32(n.fraction)
	if float64(narrow) != n.fraction && !math.IsNaN(n.fraction) {
		return w.fail("is %s, which %s cannot hold", n, t)
	}
	w.out = binary.LittleEndian.AppendUint32(w.out, math.Float32bits(narrow))
	return nil
}

// numberOf is a number, or what a logical type counts.
func (w *avroWriter) numberOf(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) (number, error) {
	switch of.Kind() {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return number{integer: v.Int(), isWhole: true}, nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if v.Uint() > math.MaxInt64 {
			return number{}, w.fail("is %d, which %s cannot hold", v.Uint(), t)
		}
		return number{integer: int64(v.Uint()), isWhole: true}, nil
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return number{fraction: v.Float()}, nil
	}
	if n, ok := count(t, v, of); ok {
		return number{integer: n, isWhole: true}, nil
	}
	return number{}, w.misfit(t, of)
}

// count is a time in the unit of a logical type, which cuts off what is finer.
func count(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) (int64, bool) {
	isDate := t.kind == "int" && t.logical == "date"
	switch {
	case isTimestamp(t), isDate:
		at, ok := timeOf(v, of)
		if !ok {
			return 0, false
		}
		switch strings.TrimPrefix(t.logical, "local-") {
		case "timestamp-millis":
			return at.UnixMilli(), true
		case "timestamp-micros":
			return at.UnixMicro(), true
		case "timestamp-nanos":
			const span = math.MaxInt64 / int64(time.Second)
			return at.UnixNano(), at.Unix() < span && at.Unix() > -span
		}
		days := at.Unix() / (24 * 60 * 60)
		if at.Unix() < 0 && at.Unix()%(24*60*60) != 0 {
			days--
		}
		return days, true
	case isTimeOfDay(t):
		since, ok := sinceMidnight(v, of)
		return int64(since / unitOf(t.logical, "time-")), ok
	}
	return 0, false
}

func timeOf(v protoreflect.Value, of protoreflect.FieldDescriptor) (time.Time, bool) {
	switch {
	case of.Message() != nil && of.Message().FullName() == "google.protobuf.Timestamp":
		seconds, nanos := secondsOf(v.Message())
		return time.Unix(seconds, nanos).UTC(), seconds >= minSeconds && seconds <= maxSeconds && nanos >= 0 && nanos < 1e9
	case of.Kind() == protoreflect.StringKind:
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", time.DateOnly} {
			if at, err := time.Parse(layout, v.String()); err == nil {
				return at.UTC(), true
			}
		}
	}
	return time.Time{}, false
}

func sinceMidnight(v protoreflect.Value, of protoreflect.FieldDescriptor) (time.Duration, bool) {
	const day = 24 * time.Hour
	switch {
	case of.Message() != nil && of.Message().FullName() == "google.protobuf.Duration":
		seconds, nanos := secondsOf(v.Message())
		if seconds < 0 || seconds > int64(day/time.Second) || nanos < 0 || nanos >= 1e9 {
			return 0, false
		}
		since := time.Duration(seconds)*time.Second + time.Duration(nanos)
		return since, since < day
	case of.Kind() == protoreflect.StringKind:
		at, err := time.Parse("15:04:05.999999999", v.String())
		return time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute + time.Duration(at.Second())*time.Second +
			time.Duration(at.Nanosecond()), err == nil
	}
	return 0, false
}

func secondsOf(m protoreflect.Message) (seconds, nanos int64) {
	fields := m.Descriptor().Fields()
	return m.Get(fields.ByNumber(1)).Int(), m.Get(fields.ByNumber(2)).Int()
}

// text writes a string or a symbol.
func (w *avroWriter) text(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) error {
	var text string
	switch of.Kind() {
	case protoreflect.StringKind:
		text = v.String()
	case protoreflect.EnumKind:
		value := of.Enum().Values().ByNumber(v.Enum())
		if value == nil {
			return w.fail("is %d, which has no name in enum %s", v.Enum(), of.Enum().FullName())
		}
		text = string(value.Name())
	default:
		return w.misfit(t, of)
	}
	if t.kind == "string" {
		w.bytes([]byte(text))
		return nil
	}
	i := slices.Index(t.symbols, text)
	if i < 0 {
		return w.fail("is %.100q, which %s does not have", text, t)
	}
	w.long(int64(i))
	return nil
}

// binary writes bytes, a decimal or a UUID.
func (w *avroWriter) binary(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) error {
	var raw []byte
	switch {
	case of.Kind() == protoreflect.BytesKind:
		raw = v.Bytes()
	case t.logical == "decimal":
		unscaled, ok := unscaledOf(t, v, of)
		if !ok {
			return w.fail("is no decimal number with at most %d digits behind the point", t.scale)
		}
		raw = complement(unscaled, t.size)
	case t.logical == "uuid" && t.kind == "fixed" && of.Kind() == protoreflect.StringKind:
		var err error
		if raw, err = hex.DecodeString(strings.ReplaceAll(v.String(), "-", "")); err != nil {
			return w.fail("is no UUID")
		}
	default:
		return w.misfit(t, of)
	}
	if t.kind == "bytes" {
		w.bytes(raw)
		return nil
	}
	if len(raw) != t.size {
		return w.fail("has %d bytes, and %s has %d", len(raw), t, t.size)
	}
	w.out = append(w.out, raw...)
	return nil
}

// unscaledOf is a decimal of text, or a whole number, as the integer that it is with the scale of its type.
func unscaledOf(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) (*big.Int, bool) {
	var text string
	switch {
	case of.Kind() == protoreflect.StringKind, kinOf(of) == "whole":
		text = v.String()
	case of.Message() != nil && of.Message().FullName() == "google.type.Decimal" && isText(of.Message().Fields().ByNumber(1)):
		text = v.Message().Get(of.Message().Fields().ByNumber(1)).String()
	}
	whole, behind, _ := strings.Cut(text, ".")
	behind = strings.TrimRight(behind, "0")
	if len(behind) > t.scale || len(whole) > 2*maxDecimal || t.scale > 8*maxDecimal || strings.Trim(strings.TrimLeft(whole, "+-"), "0123456789") != "" ||
		strings.Trim(behind, "0123456789") != "" {
		return nil, false
	}
	return new(big.Int).SetString(whole+behind+strings.Repeat("0", t.scale-len(behind)), 10)
}

// complement is an integer in two's complement, in as many bytes as it needs, or in size where that is given and enough.
func complement(v *big.Int, size int) []byte {
	n := v.BitLen()/8 + 1
	if v.Sign() < 0 {
		n = new(big.Int).Not(v).BitLen()/8 + 1
	}
	n = max(n, size)
	if v.Sign() < 0 {
		v = new(big.Int).Add(v, new(big.Int).Lsh(big.NewInt(1), uint(8*n)))
	}
	return v.FillBytes(make([]byte, n))
}
