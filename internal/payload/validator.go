package payload

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Validator says what keys or values have to be like. Safe for concurrent use, and never waits.
type Validator interface {
	// Validate answers an *Error where a key or value is not like that.
	Validate(value []byte) error
}

// Text takes text. Its lengths are in characters.
type Text struct {
	UTF16    bool           // in big-endian order, and else UTF-8
	Pattern  *regexp.Regexp // that has to match it; nil: any
	Min, Max int            // 0: none
}

// Validate implements Validator.
func (t Text) Validate(value []byte) error {
	text, kind := string(value), "UTF-8"
	valid := utf8.Valid(value)
	if t.UTF16 {
		kind = "UTF-16"
		text, valid = fromUTF16(value)
	}
	n := utf8.RuneCountInString(text)
	switch {
	case !valid:
		return &Error{Reason: "it is no text in " + kind}
	case n < t.Min:
		return &Error{Reason: fmt.Sprintf("it has %d characters, less than %d", n, t.Min)}
	case t.Max > 0 && n > t.Max:
		return &Error{Reason: fmt.Sprintf("it has %d characters, more than %d", n, t.Max)}
	case t.Pattern != nil && !t.Pattern.MatchString(text):
		return &Error{Reason: fmt.Sprintf("it does not match %s", t.Pattern)}
	}
	return nil
}

func fromUTF16(value []byte) (string, bool) {
	if len(value)%2 != 0 {
		return "", false
	}
	units := make([]uint16, len(value)/2)
	for i := range units {
		units[i] = binary.BigEndian.Uint16(value[2*i:])
	}
	text := string(utf16.Decode(units))
	return text, !strings.ContainsRune(text, utf8.RuneError)
}

// Number takes numbers, as text or in big-endian order.
type Number struct {
	Bits     int  // 32 or 64
	Float    bool // and else whole
	Binary   bool
	Multiple float64 // 0: of anything
	Range    Range
}

// Range has ends, which belong to it or do not; nil: none.
type Range struct {
	Min, Max          *float64
	OverMin, UnderMax bool // the end itself does not belong to it
}

// Validate implements Validator.
func (n Number) Validate(value []byte) error {
	kind := map[bool]string{false: "whole number", true: "number"}[n.Float]
	v, ok := n.read(value)
	if !ok {
		form := "text"
		if n.Binary {
			form = "binary form"
		}
		return &Error{Reason: fmt.Sprintf("it is no %s of %d bits in %s", kind, n.Bits, form)}
	}
	below := n.Range.Min != nil && (v < *n.Range.Min || n.Range.OverMin && v == *n.Range.Min)
	above := n.Range.Max != nil && (v > *n.Range.Max || n.Range.UnderMax && v == *n.Range.Max)
	switch {
	case below || above || math.IsNaN(v):
		return &Error{Reason: "it is out of range"}
	case n.Multiple != 0 && math.Remainder(v, n.Multiple) != 0:
		return &Error{Reason: fmt.Sprintf("it is no multiple of %v", n.Multiple)}
	}
	return nil
}

// read is the number. Those of 64 bits are as precise as a float is.
func (n Number) read(value []byte) (v float64, ok bool) {
	switch {
	case n.Binary && len(value) != n.Bits/8:
		return 0, false
	case n.Binary && n.Float && n.Bits == 32:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(value))), true
	case n.Binary && n.Float:
		return math.Float64frombits(binary.BigEndian.Uint64(value)), true
	case n.Binary && n.Bits == 32:
		return float64(int32(binary.BigEndian.Uint32(value))), true
	case n.Binary:
		return float64(int64(binary.BigEndian.Uint64(value))), true
	case n.Float:
		v, err := strconv.ParseFloat(string(value), n.Bits)
		return v, err == nil && !bytes.ContainsAny(value, "_xXpPnNiI")
	}
	whole, err := strconv.ParseInt(string(value), 10, n.Bits)
	return float64(whole), err == nil && value[0] != '+'
}

// NewMessage takes protobuf messages. Fields that the message does not have may be newer than it.
func NewMessage(of protoreflect.MessageDescriptor) Validator { return message{of} }

type message struct{ protoreflect.MessageDescriptor }

func (m message) Validate(value []byte) error {
	if err := proto.Unmarshal(value, dynamicpb.NewMessage(m.MessageDescriptor)); err != nil {
		return &Error{Reason: fmt.Sprintf("it is no %s: %s", m.FullName(), reasonOf(err))}
	}
	return nil
}

// FollowSchema takes what the schema of the moment takes, bare, without a frame. A schema has to be one that CanValidate takes.
func FollowSchema(schema func() *Schema) Validator { return followed(schema) }

type followed func() *Schema

func (f followed) Validate(value []byte) error {
	s := f()
	if err := s.CanValidate(); err != nil {
		return err
	}
	if s.Format == FormatAvro {
		return s.validateAvro(value)
	}
	return s.validateJSON(value)
}

// CanValidate says why the schema cannot validate values, as an *Error, or nil.
func (s *Schema) CanValidate() error {
	if err := s.Check(); err != nil {
		return err
	}
	switch s.Format {
	case FormatAvro:
		return nil
	case FormatJSON:
		s.jsonOnce.Do(func() {
			if s.json, s.jsonWrong = compileJSON(s.Text); s.jsonWrong != nil {
				s.jsonWrong = &Error{Reason: "its schema cannot be used: " + strings.Join(strings.Fields(s.jsonWrong.Error()), " ")}
			}
		})
		return s.jsonWrong
	}
	return &Error{Reason: fmt.Sprintf("its schema is of %s", s.Format)}
}

func (s *Schema) validateAvro(value []byte) error {
	r := newAvroReader(value)
	if err := r.skip(s.avro); err != nil {
		return err
	}
	if left := len(r.in); left > 0 {
		return &Error{Reason: fmt.Sprintf("%d bytes follow", left)}
	}
	return nil
}

// nowhere is where schemas are that a JSON Schema refers to: none is fetched or read.
type nowhere struct{}

func (nowhere) Load(url string) (any, error) {
	return nil, errors.New("it refers to " + url + ", and only what is in it is looked at")
}

func compileJSON(text string) (*jsonschema.Schema, error) {
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nowhere{})
	const name = "schema:model"
	if err := c.AddResource(name, parsed); err != nil {
		return nil, err
	}
	return c.Compile(name)
}

func (s *Schema) validateJSON(value []byte) error {
	if !json.Valid(value) {
		return &Error{Reason: "it is no JSON"}
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return &Error{Reason: "it is no JSON"}
	}
	err = s.json.Validate(parsed)
	wrong, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	for len(wrong.Causes) > 0 {
		wrong = wrong.Causes[0]
	}
	path := "$"
	for _, step := range wrong.InstanceLocation {
		path += "." + step
	}
	return &Error{Path: path, Reason: fmt.Sprintf("it does not fit `%s` of the schema", strings.Join(wrong.ErrorKind.KeywordPath(), "."))}
}

// FieldText is a field of a message as text; nil: it is not there.
func FieldText(at protoreflect.Message, path []protoreflect.FieldDescriptor) []byte {
	for i, f := range path {
		if !at.Has(f) {
			return nil
		}
		v := at.Get(f)
		if i < len(path)-1 {
			at = v.Message()
			continue
		}
		switch f.Kind() {
		case protoreflect.BytesKind:
			return v.Bytes()
		case protoreflect.EnumKind:
			if name := f.Enum().Values().ByNumber(v.Enum()); name != nil {
				return []byte(name.Name())
			}
		}
		return fmt.Append(nil, v.Interface())
	}
	return nil
}
