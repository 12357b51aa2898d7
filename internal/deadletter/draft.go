package deadletter

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// ErrUnchanged says that what came back from an editor is the letter as it was.
var ErrUnchanged = errors.New("nothing was changed")

// Draft is the record of a letter as JSON that a person edits, before it is sent again. What is left as it was is sent as it
// was, to the byte.
type Draft struct {
	letter  Letter
	message protoreflect.MessageDescriptor // of the value; nil where that is not known
	frame   []byte                         // a schema registry's, that the message or the JSON of the value stands behind
	before  draftJSON
}

// draftJSON has one field of those that begin with key, and one of those that begin with value.
type draftJSON struct {
	About draftAbout `json:"about"`

	Key       json.RawMessage `json:"key,omitempty"` // text or null
	KeyBase64 json.RawMessage `json:"key-base64,omitempty"`

	Headers []draftHeader `json:"headers"`

	Value        json.RawMessage `json:"value,omitempty"` // text or null
	ValueMessage json.RawMessage `json:"value-message,omitempty"`
	ValueJSON    json.RawMessage `json:"value-json,omitempty"`
	ValueBase64  json.RawMessage `json:"value-base64,omitempty"`
}

// draftAbout is for the eyes of who edits.
type draftAbout struct {
	Letter string `json:"letter"`
	Reason string `json:"reason"`
	Topic  string `json:"topic"`
	Method string `json:"method,omitempty"`
}

// draftHeader has either a value of two forms, or is one of those whose values are not shown: the nth masked one of the letter.
type draftHeader struct {
	Name        string          `json:"name"`
	Value       json.RawMessage `json:"value,omitempty"`
	ValueBase64 json.RawMessage `json:"value-base64,omitempty"`
	Masked      int             `json:"masked,omitempty"`
}

// Draft is that of a letter. A value that is the message of a method of protos, which may be nil, is shown as such.
func (s Source) Draft(l Letter, protos protodesc.Resolver) (*Draft, error) {
	name := method(s.Request(l))
	d := &Draft{letter: l}
	switch e := s.event(l); {
	case e == nil:
		d.message = input(protos, name)
	default:
		isMessage := e.Request.Name == topology.EncodingProtobuf
		if isMessage {
			d.message = e.Input
		}
		if e.Request.Registry != nil && e.Request.Name != topology.EncodingAvro {
			d.frame = payload.Framing(l.Value, e.Request.Registry.IDBytes, isMessage)
		}
	}
	d.before = draftJSON{
		About:   draftAbout{Letter: l.Position().String(), Reason: l.Cause.Reason, Topic: l.Cause.Topic, Method: name},
		Headers: []draftHeader{},
	}
	masked := 0
	for _, h := range l.Own {
		switch {
		case !goesAgain(h):
		case secret(h.Name):
			masked++
			d.before.Headers = append(d.before.Headers, draftHeader{Name: h.Name, Masked: masked})
		default:
			shown := draftHeader{Name: h.Name}
			if err := show(h.Value, &shown.Value, &shown.ValueBase64); err != nil {
				return nil, err
			}
			d.before.Headers = append(d.before.Headers, shown)
		}
	}
	if err := show(l.Key, &d.before.Key, &d.before.KeyBase64); err != nil {
		return nil, err
	}
	return d, d.showValue()
}

// input is the type of the message that a method takes; nil where it is not known.
func input(protos protodesc.Resolver, method string) protoreflect.MessageDescriptor {
	if protos == nil {
		return nil
	}
	found, err := protos.FindDescriptorByName(protoreflect.FullName(strings.Replace(method, "/", ".", 1)))
	if m, ok := found.(protoreflect.MethodDescriptor); ok && err == nil {
		return m.Input()
	}
	return nil
}

// show is bytes as text or null, else in base64.
func show(b []byte, plain, inBase64 *json.RawMessage) (err error) {
	into, v := plain, any(string(b))
	switch {
	case b == nil:
		v = nil
	case !utf8.Valid(b):
		into, v = inBase64, b
	}
	*into, err = unescaped(v, "")
	return err
}

// unescaped is JSON without escapes that only HTML needs.
func unescaped(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func (d *Draft) showValue() error {
	value := bytes.TrimPrefix(d.letter.Value, d.frame)
	if text := d.messageText(value); text != nil {
		d.before.ValueMessage = text
		return nil
	}
	if object := bytes.TrimLeft(value, " \t\r\n"); len(object) > 0 && (object[0] == '{' || object[0] == '[') && utf8.Valid(value) && json.Valid(value) {
		d.before.ValueJSON = value
		return nil
	}
	return show(d.letter.Value, &d.before.Value, &d.before.ValueBase64)
}

// messageText is a value as the message that the method takes, or nil where it is none, or would not come back whole: JSON
// has no place for fields that the catalog does not know.
func (d *Draft) messageText(value []byte) []byte {
	if d.message == nil || value == nil {
		return nil
	}
	m, again := dynamicpb.NewMessage(d.message), dynamicpb.NewMessage(d.message)
	if proto.Unmarshal(value, m) != nil {
		return nil
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil || protojson.Unmarshal(text, again) != nil || !proto.Equal(m, again) {
		return nil
	}
	return text
}

// Text is the draft for the editor.
func (d *Draft) Text() ([]byte, error) {
	text, err := unescaped(d.before, "  ")
	return append(text, '\n'), err
}

// Read is the letter that a text of an editor asks for, marked as edited now. Its error says what is wrong with the text, and
// where; it is ErrUnchanged where nothing is.
func (d *Draft) Read(text []byte, now time.Time) (Letter, error) {
	after, err := parseDraft(text)
	if err != nil {
		return Letter{}, err
	}
	l, key, value := d.letter, d.letter.Key, d.letter.Value
	var problems []error
	note := func(err error) { problems = append(problems, err) }
	if after.About.Letter != d.before.About.Letter || after.About.Topic != d.before.About.Topic {
		note(errors.New("about: it only says which letter this is, and stays as it is"))
	}
	keyChanged := !same(after.Key, d.before.Key) || !same(after.KeyBase64, d.before.KeyBase64)
	if keyChanged {
		key, err = one([]form{{"key", after.Key, textOf}, {"key-base64", after.KeyBase64, bytesOf}})
		note(err)
	}
	valueChanged := !same(after.Value, d.before.Value) || !same(after.ValueMessage, d.before.ValueMessage) ||
		!same(after.ValueJSON, d.before.ValueJSON) || !same(after.ValueBase64, d.before.ValueBase64)
	if valueChanged {
		value, err = one([]form{{"value", after.Value, textOf}, {"value-message", after.ValueMessage, d.messageOf}, {"value-json", after.ValueJSON, d.jsonOf},
			{"value-base64", after.ValueBase64, bytesOf}})
		note(err)
	}
	headers, err := d.headers(after.Headers)
	note(err)
	if err := errors.Join(problems...); err != nil {
		return Letter{}, err
	}
	if !d.changes(headers) && bytes.Equal(key, d.letter.Key) && (key == nil) == (d.letter.Key == nil) &&
		bytes.Equal(value, d.letter.Value) && (value == nil) == (d.letter.Value == nil) {
		return Letter{}, ErrUnchanged
	}
	l.Key, l.Value, l.Own = key, value, append(headers, edited(d.letter, now)...)
	return l, nil
}

func parseDraft(text []byte) (after draftJSON, err error) {
	if !utf8.Valid(text) {
		return after, errors.New("it is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err = decoder.Decode(&after); err == nil {
		if _, err = decoder.Token(); err == io.EOF {
			return after, nil
		}
		err = fmt.Errorf("%s: something follows the end of the letter", place(text, decoder.InputOffset()))
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		err = fmt.Errorf("%s: %w", place(text, syntax.Offset), err)
	case errors.As(err, &kind):
		err = fmt.Errorf("%s: %s takes no %s", place(text, kind.Offset), kind.Field, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		err = fmt.Errorf("%s: it ends too soon", place(text, int64(len(text))))
	}
	return after, err
}

// place is the line and the column of the last character before an offset.
func place(text []byte, offset int64) string {
	before := text[:min(max(offset-1, 0), int64(len(text)))]
	begin := bytes.LastIndexByte(before, '\n') + 1
	return fmt.Sprintf("line %d, column %d", bytes.Count(before, []byte("\n"))+1, utf8.RuneCount(before[begin:])+1)
}

// same reports whether two JSON texts differ in their layout at most. Numbers and names stay as they were written.
func same(a, b json.RawMessage) bool { return bytes.Equal(compact(a), compact(b)) }

func compact(text []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text
	}
	return b.Bytes()
}

// form is a field that says what some bytes are.
type form struct {
	name  string
	text  json.RawMessage
	bytes func(json.RawMessage) ([]byte, error)
}

// one is what the only form says that is given.
func one(forms []form) ([]byte, error) {
	var given *form
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
		switch {
		case f.text == nil:
		case given != nil:
			return nil, fmt.Errorf("%s and %s: one of them is to go", given.name, f.name)
		default:
			given = &f
		}
	}
	if given == nil {
		return nil, fmt.Errorf("one of %s is missing", strings.Join(names, ", "))
	}
	b, err := given.bytes(given.text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", given.name, err)
	}
	return b, nil
}

func textOf(text json.RawMessage) ([]byte, error) {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, errors.New("it takes a text, or null")
	}
	if s == nil {
		return nil, nil
	}
	return []byte(*s), nil
}

func bytesOf(text json.RawMessage) ([]byte, error) {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil || s == nil {
		return nil, errors.New("it takes a text in base64")
	}
	return base64.StdEncoding.DecodeString(*s)
}

func (d *Draft) jsonOf(text json.RawMessage) ([]byte, error) {
	return slices.Concat(d.frame, compact(text)), nil
}

func (d *Draft) messageOf(text json.RawMessage) ([]byte, error) {
	if d.message == nil {
		return nil, errors.New("the value of this letter is no message of a catalog: give value, value-json or value-base64")
	}
	m := dynamicpb.NewMessage(d.message)
	if err := protojson.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("it is no %s: %w", d.message.FullName(), err)
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return slices.Concat(d.frame, encoded), err
}

// headers are those that are asked for, with the values of masked ones.
func (d *Draft) headers(asked []draftHeader) ([]wire.Header, error) {
	var hidden []wire.Header
	for _, h := range d.letter.Own {
		if goesAgain(h) && secret(h.Name) {
			hidden = append(hidden, h)
		}
	}
	var headers []wire.Header
	if asked == nil {
		return nil, errors.New("headers: they are missing, and none is []")
	}
	var problems []error
	for i, h := range asked {
		header, err := h.read(hidden)
		if err != nil {
			problems = append(problems, fmt.Errorf("headers[%d]: %w", i, err))
		}
		headers = append(headers, header)
	}
	return headers, errors.Join(problems...)
}

func (h draftHeader) read(hidden []wire.Header) (wire.Header, error) {
	header := wire.Header{Name: h.Name}
	if !goesAgain(header) {
		return header, fmt.Errorf("%s is never sent with a replayed letter", h.Name)
	}
	if h.Masked == 0 {
		var err error
		header.Value, err = one([]form{{"value", h.Value, textOf}, {"value-base64", h.ValueBase64, bytesOf}})
		return header, err
	}
	switch {
	case h.Value != nil || h.ValueBase64 != nil:
		return header, errors.New("masked is to go where a value is given")
	case h.Masked < 0 || h.Masked > len(hidden) || hidden[h.Masked-1].Name != h.Name:
		return header, fmt.Errorf("the letter has no masked value %d of a header %s", h.Masked, h.Name)
	}
	return hidden[h.Masked-1], nil
}

// changes reports whether headers are others than those that the letter would be sent with.
func (d *Draft) changes(headers []wire.Header) bool {
	var own []wire.Header
	for _, h := range d.letter.Own {
		if goesAgain(h) {
			own = append(own, h)
		}
	}
	if len(own) != len(headers) {
		return true
	}
	for i, h := range own {
		if h.Name != headers[i].Name || (h.Value == nil) != (headers[i].Value == nil) || !bytes.Equal(h.Value, headers[i].Value) {
			return true
		}
	}
	return false
}
