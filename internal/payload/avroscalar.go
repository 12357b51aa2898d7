package payload

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// scalar writes a value without a tag, and reports whether it is the one that a field has which is not set.
func (m *avroMessage) scalar(t *avroType, into protoreflect.FieldDescriptor) (zero bool, err error) {
	begin := len(m.out)
	switch kind := into.Kind(); kind {
	case protoreflect.BoolKind:
		if t.kind != "boolean" {
			return false, m.misfit(t, into)
		}
		v, err := m.boolean()
		m.out = protowire.AppendVarint(m.out, protowire.EncodeBool(v))
		return !v, err
	case protoreflect.StringKind:
		text, err := m.textOf(t, into)
		if err == nil {
			err = m.text(text)
		}
		return text == "", err
	case protoreflect.BytesKind:
		v, err := m.bytesOf(t, into)
		m.out = protowire.AppendBytes(m.out, v)
		return len(v) == 0, err
	case protoreflect.EnumKind:
		return m.enum(t, into)
	default:
		n, err := m.numberOf(t, into)
		if err != nil {
			return false, err
		}
		if kind == protoreflect.FloatKind || kind == protoreflect.DoubleKind {
			return m.fraction(n, into)
		}
		if !n.whole(kind) {
			return false, m.fail("is %s, which %s cannot hold", n, kind)
		}
		m.out = appendInteger(m.out, kind, uint64(n.integer))
		return !slices.ContainsFunc(m.out[begin:], func(b byte) bool { return b != 0 }), nil
	}
}

// number is one of Avro: an integer, or a fraction.
type number struct {
	integer  int64
	fraction float64
	isWhole  bool
}

func (n number) String() string {
	if n.isWhole {
		return strconv.FormatInt(n.integer, 10)
	}
	return strconv.FormatFloat(n.fraction, 'g', -1, 64)
}

func (m *avroMessage) numberOf(t *avroType, into protoreflect.FieldDescriptor) (n number, err error) {
	switch t.kind {
	case "int":
		n.integer, err = m.int()
		n.isWhole = true
	case "long":
		n.integer, err = m.long()
		n.isWhole = true
	case "float":
		n.fraction, err = m.float()
	case "double":
		n.fraction, err = m.double()
	default:
		return n, m.misfit(t, into)
	}
	return n, err
}

// whole reports whether the number is one that a kind of integers can hold, and makes it that.
func (n *number) whole(kind protoreflect.Kind) bool {
	if !n.isWhole {
		const beyond = 1 << 63
		if n.fraction != math.Trunc(n.fraction) || n.fraction >= beyond || n.fraction < -beyond {
			return false // NaN is not equal to itself
		}
		n.integer = int64(n.fraction)
	}
	return fitsInteger(kind, n.integer < 0, uint64(n.integer))
}

// fraction writes a number as float or double, where that is the very same number.
func (m *avroMessage) fraction(n number, into protoreflect.FieldDescriptor) (zero bool, err error) {
	v := n.fraction
	if n.isWhole {
		v = float64(n.integer)
		if v >= 1<<63 || int64(v) != n.integer {
			return false, m.fail("is %s, which %s cannot hold", n, into.Kind())
		}
	}
	if into.Kind() == protoreflect.DoubleKind {
		m.out = protowire.AppendFixed64(m.out, math.Float64bits(v))
		return math.Float64bits(v) == 0, nil
	}
	narrow := float32(v)
	if float64(narrow) != v && !math.IsNaN(v) {
		return false, m.fail("is %s, which %s cannot hold", n, into.Kind())
	}
	m.out = protowire.AppendFixed32(m.out, math.Float32bits(narrow))
	return math.Float32bits(narrow) == 0, nil
}

// fitsInteger reports whether a kind holds an integer, given as its 64 bits.
func fitsInteger(kind protoreflect.Kind, negative bool, bits uint64) bool {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return negative && int64(bits) >= math.MinInt32 || !negative && bits <= math.MaxInt32
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return !negative && bits <= math.MaxUint32
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return !negative
	}
	return negative || bits <= math.MaxInt64
}

// appendInteger writes an integer that fits.
func appendInteger(to []byte, kind protoreflect.Kind, bits uint64) []byte {
	switch kind {
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return protowire.AppendVarint(to, protowire.EncodeZigZag(int64(bits)))
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind:
		return protowire.AppendFixed32(to, uint32(bits))
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return protowire.AppendFixed64(to, bits)
	}
	return protowire.AppendVarint(to, bits)
}

func wireType(f protoreflect.FieldDescriptor) protowire.Type {
	switch f.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	}
	return protowire.VarintType
}

func (m *avroMessage) text(text string) error {
	if !utf8.ValidString(text) {
		return m.fail("is no UTF-8 text")
	}
	m.out = protowire.AppendString(m.out, text)
	return nil
}

// textOf is a value as text: strings and symbols as they are, and what a logical type writes as text in ISO 8601 and the like.
func (m *avroMessage) textOf(t *avroType, into protoreflect.FieldDescriptor) (string, error) {
	switch {
	case t.kind == "string":
		v, err := m.bytes()
		return string(v), err
	case t.kind == "enum":
		return m.symbol(t)
	case t.logical == "decimal" && (t.kind == "bytes" || t.kind == "fixed"):
		return m.decimal(t, into)
	case t.logical == "uuid" && t.kind == "fixed" && t.size == 16:
		v, err := m.take(16)
		if err != nil {
			return "", err
		}
		digits := hex.EncodeToString(v)
		return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-"), nil
	case isTimestamp(t), t.logical == "date" && t.kind == "int":
		at, err := m.instant(t)
		switch {
		case t.logical == "date":
			return at.Format(time.DateOnly), err
		case strings.HasPrefix(t.logical, "local-"):
			return at.Format("2006-01-02T15:04:05.999999999"), err
		}
		return at.Format(time.RFC3339Nano), err
	case isTimeOfDay(t):
		since, err := m.sinceMidnight(t)
		return time.Time{}.Add(since).Format("15:04:05.999999999"), err
	}
	return "", m.misfit(t, into)
}

func (m *avroMessage) bytesOf(t *avroType, into protoreflect.FieldDescriptor) ([]byte, error) {
	switch t.kind {
	case "bytes", "string":
		return m.bytes()
	case "fixed":
		return m.take(t.size)
	}
	return nil, m.misfit(t, into)
}

func (m *avroMessage) enum(t *avroType, into protoreflect.FieldDescriptor) (zero bool, err error) {
	var name string
	switch t.kind {
	case "enum":
		name, err = m.symbol(t)
	case "string":
		var text []byte
		text, err = m.bytes()
		name = string(text)
	default:
		return false, m.misfit(t, into)
	}
	if err != nil {
		return false, err
	}
	value := into.Enum().Values().ByName(protoreflect.Name(name))
	if value == nil {
		return false, m.fail("is %.100q, which enum %s does not have", name, into.Enum().FullName())
	}
	m.out = protowire.AppendVarint(m.out, uint64(int64(value.Number())))
	return value.Number() == 0, nil
}

// maxDecimal bounds the bytes of a decimal: its digits take time that grows with their square.
const maxDecimal = 256

// decimal is a decimal with as many digits behind the point as its type has.
func (m *avroMessage) decimal(t *avroType, into protoreflect.FieldDescriptor) (string, error) {
	raw, err := m.bytesOf(t, into)
	if err != nil {
		return "", err
	}
	if len(raw) > maxDecimal || t.scale > 8*maxDecimal {
		return "", m.fail("is a decimal of %d bytes and scale %d; those of up to %d bytes are read", len(raw), t.scale, maxDecimal)
	}
	v := new(big.Int).SetBytes(raw)
	if len(raw) > 0 && raw[0] >= 0x80 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
	}
	digits := new(big.Int).Abs(v).String()
	if t.scale > 0 {
		if short := t.scale + 1 - len(digits); short > 0 {
			digits = strings.Repeat("0", short) + digits
		}
		point := len(digits) - t.scale
		digits = digits[:point] + "." + digits[point:]
	}
	if v.Sign() < 0 {
		digits = "-" + digits
	}
	return digits, nil
}

func isTimestamp(t *avroType) bool {
	return t.kind == "long" && unitOf(strings.TrimPrefix(t.logical, "local-"), "timestamp-") > 0
}

func isTimeOfDay(t *avroType) bool {
	return t.kind == "int" && t.logical == "time-millis" || t.kind == "long" && t.logical == "time-micros"
}

func unitOf(logical, prefix string) time.Duration {
	unit, _ := strings.CutPrefix(logical, prefix)
	return map[string]time.Duration{"millis": time.Millisecond, "micros": time.Microsecond, "nanos": time.Nanosecond}[unit]
}

// instant reads a timestamp or a date; one without a zone counts as UTC.
func (m *avroMessage) instant(t *avroType) (at time.Time, err error) {
	if t.logical == "date" {
		days, err := m.int()
		return time.Unix(days*24*60*60, 0).UTC(), err
	}
	v, err := m.long()
	unit := unitOf(strings.TrimPrefix(t.logical, "local-"), "timestamp-")
	per := int64(time.Second / unit)
	seconds, rest := v/per, v%per
	if rest < 0 {
		seconds, rest = seconds-1, rest+per
	}
	at = time.Unix(seconds, rest*int64(unit)).UTC()
	if err == nil && (seconds < minSeconds || seconds > maxSeconds) {
		err = m.fail("is %d in %s, which is not in the years 1 to 9999", v, t)
	}
	return at, err
}

// The seconds of a google.protobuf.Timestamp: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
const minSeconds, maxSeconds = -62135596800, 253402300799

func (m *avroMessage) sinceMidnight(t *avroType) (time.Duration, error) {
	v, err := m.long()
	unit := unitOf(t.logical, "time-")
	if err == nil && (v < 0 || v >= int64(24*time.Hour/unit)) {
		err = m.fail("is %d in %s, which is no time of a day", v, t)
	}
	return time.Duration(v) * unit, err
}

// message writes what is inside of a message: the fields of a record, or what a well-known type stands for.
func (m *avroMessage) message(t *avroType, into protoreflect.FieldDescriptor) error {
	of := into.Message()
	if t.kind == "record" {
		return m.record(t, of)
	}
	switch name := of.FullName(); {
	case name == "google.protobuf.Timestamp" && (isTimestamp(t) || t.kind == "int" && t.logical == "date"):
		at, err := m.instant(t)
		m.seconds(at.Unix(), at.Nanosecond())
		return err
	case name == "google.protobuf.Duration" && isTimeOfDay(t):
		since, err := m.sinceMidnight(t)
		m.seconds(int64(since/time.Second), int(since%time.Second))
		return err
	case name == "google.protobuf.Duration" && t.kind == "fixed" && t.logical == "duration":
		return m.duration(t)
	case wraps(of), name == "google.type.Decimal" && t.logical == "decimal" && isText(of.Fields().ByNumber(1)):
		return m.single(t, of.Fields().ByNumber(1), false)
	}
	return m.misfit(t, into)
}

func isText(f protoreflect.FieldDescriptor) bool {
	return f != nil && f.Kind() == protoreflect.StringKind && !f.IsList()
}

// wraps reports whether a message is one of google/protobuf/wrappers.proto.
func wraps(of protoreflect.MessageDescriptor) bool {
	return of.ParentFile().Path() == "google/protobuf/wrappers.proto"
}

// seconds writes what Timestamp and Duration consist of.
func (m *avroMessage) seconds(seconds int64, nanos int) {
	if seconds != 0 {
		m.out = protowire.AppendTag(m.out, 1, protowire.VarintType)
		m.out = protowire.AppendVarint(m.out, uint64(seconds))
	}
	if nanos != 0 {
		m.out = protowire.AppendTag(m.out, 2, protowire.VarintType)
		m.out = protowire.AppendVarint(m.out, uint64(nanos))
	}
}

// duration writes a duration of milliseconds alone: a month and a day have no length of their own.
func (m *avroMessage) duration(t *avroType) error {
	v, err := m.take(t.size)
	if err != nil {
		return err
	}
	if len(v) != 12 {
		return m.fail("is a duration of %d bytes, not of 12", len(v))
	}
	months, days, millis := binary.LittleEndian.Uint32(v), binary.LittleEndian.Uint32(v[4:]), binary.LittleEndian.Uint32(v[8:])
	if months != 0 || days != 0 {
		return m.fail("is a duration of %d months and %d days, which google.protobuf.Duration cannot hold", months, days)
	}
	m.seconds(int64(millis/1000), int(millis%1000)*int(time.Millisecond))
	return nil
}
