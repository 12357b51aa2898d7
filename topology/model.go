package topology

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkagrpc/internal/payload"
	"kafkagrpc/wire"
)

// TopicModel says what the records of a topic have to be like, on one way to it.
type TopicModel struct {
	Topic        string
	Keys, Values []*Model     // each counts
	Key          *Extraction  // what the key of a call that is written is; nil: what its route says
	Headers      []Extraction // of what is written
}

// Model says what keys or values have to be like.
type Model struct {
	Name string // string, int32, int64, float, double, json, avro or protobuf

	UTF16                bool // of a string
	Pattern              *regexp.Regexp
	MinLength, MaxLength int // 0: any

	Binary                bool    // of a number
	Multiple              float64 // 0: of anything
	Least, Most           *float64
	AboveLeast, BelowMost bool // the end itself is too much

	Text     string    // the schema of json or avro where a catalog of the file has it
	Registry *Registry // that has it else
	Schema   SchemaRef

	Message protoreflect.MessageDescriptor // of protobuf; nil where protos of registries are left out

	Skip int // bytes before what is meant

	source    string // for people: where the schema is
	validator payload.Validator
}

// Validator is what SetValidator was given. It lives as long as its model is used, also by calls that a reload has left with a model of before.
func (m *Model) Validator() payload.Validator { return m.validator }

// SetValidator gives a model what checks keys or values, before the model is used.
func (m *Model) SetValidator(v payload.Validator) { m.validator = v }

// Same reports whether two models ask for the same.
func (m *Model) Same(as *Model) bool { return same(reflect.ValueOf(m), reflect.ValueOf(as)) }

// Extraction is a field of a message that goes into its record.
type Extraction struct {
	Header  string // "": it is the key
	Message protoreflect.MessageDescriptor
	Field   []protoreflect.FieldDescriptor
	Text    string // as the file has it
}

// String is the model for people.
func (m *Model) String() string {
	if m.Message != nil {
		return m.Name + " " + string(m.Message.FullName())
	}
	if m.source != "" {
		return m.Name + " by " + m.source
	}
	return m.Name
}

// text is what a topic asks for, for people.
func (t *TopicModel) text() string {
	var all []string
	for _, m := range t.Keys {
		all = append(all, "key "+m.String())
	}
	for _, m := range t.Values {
		all = append(all, "value "+m.String())
	}
	if t.Key != nil {
		all = append(all, "key from "+t.Key.Text)
	}
	for _, h := range t.Headers {
		all = append(all, "header "+h.Header+" from "+h.Text)
	}
	return strings.Join(all, ", ")
}

// Models are those of all topics, each once, in the order of the file's routes.
func (t *Topology) Models() (all []*TopicModel) {
	for m := range t.modelled {
		if !slices.ContainsFunc(all, func(known *TopicModel) bool { return known.Topic == m.Topic && known.text() == m.text() }) {
			all = append(all, m)
		}
	}
	return all
}

// AllModels are the models of all topics, each once.
func (t *Topology) AllModels() (all []*Model) {
	for topic := range t.modelled {
		for _, m := range slices.Concat(topic.Keys, topic.Values) {
			if !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
	}
	return all
}

// modelled yields what routes ask of the records of their topics.
func (t *Topology) modelled(yield func(*TopicModel) bool) {
	both := func(requests, replies *TopicModel) bool {
		return (requests == nil || yield(requests)) && (replies == nil || yield(replies))
	}
	for _, l := range t.Listeners {
		for _, r := range l.Routes {
			if !both(r.Requests, r.Replies) {
				return
			}
		}
	}
	for _, r := range t.Remotes {
		for _, route := range r.Routes {
			if !both(route.Requests, route.Replies) {
				return
			}
		}
	}
}

// cacheTopics are the topics that a binding names.
func cacheTopics(b *binding) []cacheTopic {
	switch spec := b.spec.(type) {
	case *kafkaCache:
		return spec.Options.Topics
	case *kafkaClient:
		return spec.Options.Topics
	}
	return nil
}

// onWay are what the bindings on the way to a topic say of it.
func (c *compiler) onWay(first *binding, topic string) (all []*cacheTopic) {
	for b := first; b != nil; {
		topics := cacheTopics(b)
		for i := range topics {
			if topics[i].Name.ok && topics[i].Name.value == topic {
				all = append(all, &topics[i])
			}
		}
		spec, ok := b.spec.(*kafkaCache)
		if !ok {
			return all
		}
		exit, found := cacheExit(spec, topic)
		if !found {
			return all
		}
		b = c.graph.next(b, exit)
	}
	return all
}

// records says what the records of a topic have to be like that hold messages as they are, or in an encoding of plain events. It is nil where
// nothing is said.
func (c *compiler) records(first *binding, topic text, encoding *Encoding) *TopicModel {
	if !topic.ok {
		return nil
	}
	t := &TopicModel{Topic: topic.value}
	for _, entry := range c.onWay(first, topic.value) {
		c.topicsUsed[entry] = true
		if m := c.model(entry, &entry.Key, "key"); m != nil {
			t.Keys = append(t.Keys, m)
		}
		if m := c.valueModel(entry, encoding); m != nil {
			t.Values = append(t.Values, m)
		}
	}
	if len(t.Keys) == 0 && len(t.Values) == 0 {
		return nil
	}
	return t
}

// passing says what the records of a grpc-kafka route have to be like. One that reads its topic writes nothing.
func (c *compiler) passing(first *binding, topic, replyTo, key text, reads bool, contract wire.Contract) (requests, replies *TopicModel) {
	if reads {
		return nil, c.records(first, topic, nil)
	}
	names := []string{contract.Service, contract.Method, contract.ReplyTo, contract.CorrelationID}
	return c.written(first, topic, key, names), c.records(first, replyTo, nil)
}

// written are the records of calls that are written to a topic, with what is put into them.
func (c *compiler) written(first *binding, topic, key text, contract []string) *TopicModel {
	t := c.records(first, topic, nil)
	for _, entry := range c.onWay(first, topic.value) {
		for _, transform := range entry.Transforms {
			c.transforms[entry] = true
			if t == nil {
				t = &TopicModel{Topic: topic.value}
			}
			if from := transform.ExtractKey; from.given {
				if t.Key != nil || key.given {
					c.report.problem(from.position, "%s: the key of topic `%s` is given already, by another transform or by `with.key`; remove one of them", from.place, topic.value)
				}
				t.Key = c.extraction(entry, from, "")
			}
			for _, h := range transform.ExtractHeaders {
				var name headerName
				wrong := name.parse(h.name.value)
				if slices.Contains(contract, h.name.value) {
					wrong = "must be another header name: this one has a meaning in the records"
				}
				if wrong != "" {
					c.report.problem(h.name.position, "%s: the name %s", h.name.place.key(h.name.value), wrong)
				}
				if e := c.extraction(entry, h.value, h.name.value); e != nil {
					t.Headers = append(t.Headers, *e)
				}
			}
		}
	}
	return t
}

var fieldOf = regexp.MustCompile(`^\$\{\s*message\.(value|key)\.([^}]+?)\s*\}$`)

// extraction is a field of the messages of a topic.
func (c *compiler) extraction(entry *cacheTopic, from text, header string) *Extraction {
	if !from.ok {
		return nil
	}
	found := fieldOf.FindStringSubmatch(from.value)
	model := c.model(entry, &entry.Value, "value")
	switch {
	case found == nil:
		c.report.problem(from.position, "%s must be a field such as ${message.value.customer.id}", from.place)
	case found[1] == "key":
		c.report.problem(from.position, "%s: the keys of calls are texts, without fields; take one of the value with ${message.value.FIELD}", from.place)
	case model == nil || model.Name != "protobuf":
		c.report.problem(from.position, "%s: the fields of values are those of a proto; add a `value` with model protobuf and its record", from.place)
	case model.Message == nil: // which is told
		return &Extraction{Header: header, Text: from.raw}
	default:
		path, problem := fieldPath(model.Message, found[2])
		if problem == "" {
			return &Extraction{header, model.Message, path, from.raw}
		}
		c.report.problem(from.position, "%s: %s", from.place, problem)
	}
	return nil
}

// valueModel is that of values in an encoding, or of messages as they are.
func (c *compiler) valueModel(entry *cacheTopic, encoding *Encoding) *Model {
	m := c.model(entry, &entry.Value, "value")
	if m == nil {
		return nil
	}
	at := entry.Value.values.Model
	once := func(format string, args ...any) {
		if !c.misfits[entry] {
			c.misfits[entry] = true
			c.report.problem(at.position, "%s: "+format, append([]any{at.place}, args...)...)
		}
	}
	switch {
	case encoding == nil && (m.Name == "json" || m.Name == "avro"):
		once("calls pass through topic `%s`, whose values are messages of protobuf, and never %s; take model protobuf", entry.Name.value, m.Name)
	case encoding == nil || encoding.Name == "":
		return m
	case m.Name == "string" && encoding.Registry == nil && encoding.Name == EncodingJSON:
		return m
	case m.Name != encoding.Name:
		once("the values of plain events on topic `%s` are %s by their route, and %s here; let both say the same", entry.Name.value, encoding.Name, m.Name)
	case encoding.Registry == nil:
		return m
	case m.Name == "json":
		framed := *m
		framed.Skip = 1 + cmp.Or(encoding.Registry.IDBytes, 4)
		return &framed
	}
	return nil // each value is read by the schema that it names
}

// modelPart is what a model of one kind has, and others do not.
type modelPart struct {
	text
	of []string
}

var (
	numberModels = []string{"int32", "int64", "float", "double"}
	schemaModels = []string{"json", "avro", "protobuf"}
	legalRange   = regexp.MustCompile(`^([(\[])(-?[0-9.]+)?,(-?[0-9.]+)?([)\]])$`)
)

// model is what a file says of keys or values, nil for nothing, or where that is reported.
func (c *compiler) model(entry *cacheTopic, file *modelFile, part string) *Model {
	v := &file.values
	if !file.given || !v.Model.ok {
		return nil
	}
	if m, done := c.models[v]; done {
		return m
	}
	m := &Model{Name: v.Model.value, MinLength: v.MinLength, MaxLength: v.MaxLength, UTF16: v.Encoding.value == "utf_16", Binary: v.Format.value == "binary"}
	c.models[v] = nil
	for _, p := range []modelPart{
		{v.Encoding, []string{"string"}}, {v.Pattern, []string{"string"}}, {c.texts[&v.MinLength], []string{"string"}}, {c.texts[&v.MaxLength], []string{"string"}},
		{v.Format, numberModels}, {v.Multiple, numberModels}, {v.Range, numberModels},
	} {
		if p.given && !slices.Contains(p.of, m.Name) {
			c.report.problem(p.position, "%s is nothing that model %s has; it is for %s", p.place, m.Name, strings.Join(p.of, ", "))
		}
	}
	if m.MaxLength > 0 && m.MinLength > m.MaxLength {
		c.report.problem(c.texts[&v.MinLength].position, "%s is above `maxLength`: nothing fits", c.texts[&v.MinLength].place)
	}
	if v.Pattern.ok {
		var err error
		if m.Pattern, err = regexp.Compile(`^(?:` + v.Pattern.value + `)$`); err != nil {
			c.report.problem(v.Pattern.position, "%s: `%s` is no regular expression that is known here (RE2): %v", v.Pattern.place, v.Pattern.raw, err)
		}
	}
	if v.Multiple.ok {
		n, err := strconv.ParseFloat(v.Multiple.value, 64)
		if err != nil || n <= 0 || math.IsInf(n, 0) || math.IsNaN(n) {
			c.report.problem(v.Multiple.position, "%s: `%s` is no number above 0", v.Multiple.place, v.Multiple.raw)
		}
		m.Multiple = n
	}
	if v.Range.ok && !m.ranged(v.Range.value) {
		c.report.problem(v.Range.position, "%s: `%s` is no range such as [0,100), (,10] or [1,)", v.Range.place, v.Range.raw)
	}
	if !slices.Contains(schemaModels, m.Name) {
		for _, ref := range v.Catalog {
			c.report.problem(ref.name.position, "%s is nothing that model %s has; it is for %s", ref.name.place, m.Name, strings.Join(schemaModels, ", "))
		}
	} else if !c.modelSchema(m, entry, v, part) {
		return nil
	}
	c.models[v] = m
	return m
}

func (m *Model) ranged(text string) bool {
	found := legalRange.FindStringSubmatch(text)
	if found == nil {
		return false
	}
	end := func(text string, into **float64) bool {
		if text == "" {
			return true
		}
		n, err := strconv.ParseFloat(text, 64)
		*into = &n
		return err == nil
	}
	m.AboveLeast, m.BelowMost = found[1] == "(", found[4] == ")"
	return end(found[2], &m.Least) && end(found[3], &m.Most) && (m.Least == nil || m.Most == nil || *m.Least <= *m.Most)
}

// modelSchema finds the schema of a model.
func (c *compiler) modelSchema(m *Model, entry *cacheTopic, v *modelValues, part string) bool {
	if len(v.Catalog) != 1 || len(v.Catalog[0].value) != 1 {
		c.report.problem(v.at, "%s: model %s needs one schema; name it with `catalog`, one catalog, and one subject in that", v.place, m.Name)
		return false
	}
	name, r := v.Catalog[0].name, v.Catalog[0].value[0]
	catalog, ok := c.doc.Catalogs.get(name.value)
	if !ok {
		c.report.problem(name.position, "catalog `%s` of %s does not exist%s", name.value, name.place, hint(name.value, c.doc.Catalogs.names()))
		return false
	}
	if r.Strategy.given && r.Strategy.value != "topic" && !r.Record.given {
		c.report.problem(r.at, "%s: strategy %s needs a `record`", r.place, r.Strategy.value)
		return false
	}
	ref := c.schemaRef(name, []schemaRef{r.schemaRef}, entry.Name.value, r.Record.value)
	if r.Strategy.value == "topic" {
		ref.Subject = entry.Name.value + "-" + part
	}
	m.source = fmt.Sprintf("%s of %s", ref, name.value)
	if catalog.registry == nil {
		return c.fileModel(m, catalog, name, r, ref)
	}
	c.registriesUsed[name.value] = true
	registry := c.registries[name.value]
	if registry == nil || registry.URL == "" || ref == (SchemaRef{}) {
		return false
	}
	if m.Name != "protobuf" {
		m.Registry, m.Schema = registry, ref
		return true
	}
	at := cmp.Or(r.Subject, r.ID.text, r.Strategy)
	s, ok := c.fetch(registry, ref, at)
	if !ok {
		return c.options.Protos == nil
	}
	s.value.quiet = true
	c.compileSubject(s.value.catalog, nil, s)
	return c.record(m, c.files[subjectKey{s.value.catalog, s.name.value}], r, at)
}

// fileModel finds the schema of a model in the configuration, or in a file that it names.
func (c *compiler) fileModel(m *Model, catalog *catalog, name text, r modelRef, ref SchemaRef) bool {
	at := cmp.Or(r.Subject, r.Strategy, r.ID.text)
	if r.ID.given {
		c.report.problem(r.ID.position, "%s: catalog `%s` is no schema registry, and has no ids; name the `subject`", r.ID.place, name.value)
		return false
	}
	s, ok := catalog.subjects.get(ref.Subject)
	if !ok {
		if len(catalog.subjects) > 0 && ref.Subject != "" {
			c.report.problem(at.position, "%s: catalog `%s` has no subject `%s`%s", at.place, name.value, ref.Subject, hint(ref.Subject, catalog.subjects.names()))
		}
		return false
	}
	if m.Name == "protobuf" {
		return c.record(m, c.files[subjectKey{name.value, ref.Subject}], r, at)
	}
	m.Text = s.schema.value
	if s.path.ok {
		source, err := readRegular(c.path(s.path.value))
		if err != nil {
			c.report.cause(err, s.path.position, "cannot read the schema of subject `%s`: %v", ref.Subject, err)
			return false
		}
		m.Text = string(source)
	}
	format := payload.FormatAvro
	if m.Name == "json" {
		format = payload.FormatJSON
	}
	if err := (&payload.Schema{Format: format, Text: m.Text}).CanValidate(); err != nil {
		c.report.cause(err, at.position, "%s: subject `%s` is no schema of %s: %v", at.place, ref.Subject, format, err)
		return false
	}
	return true
}

// record finds the message of a model in its proto, which may be nil: that is reported.
func (c *compiler) record(m *Model, file linker.File, r modelRef, at text) bool {
	if file == nil {
		return false
	}
	messages := file.Messages()
	var known []string
	for i := range messages.Len() {
		known = append(known, string(messages.Get(i).Name()))
	}
	name := protoreflect.FullName(r.Record.value)
	if !r.Record.given {
		if len(known) != 1 {
			c.report.problem(at.position, "%s has several messages; add `record`, the name of one of them: %s", at.place, strings.Join(known, ", "))
			return false
		}
		name = protoreflect.FullName(known[0])
	}
	for _, full := range []protoreflect.FullName{name, file.Package().Append(protoreflect.Name(name))} {
		if found, ok := file.FindDescriptorByName(full).(protoreflect.MessageDescriptor); ok {
			m.Message = found
			return true
		}
	}
	c.report.problem(r.Record.position, "%s: its proto has no message `%s`%s", r.Record.place, r.Record.raw, hint(r.Record.value, known))
	return false
}

// subjectKey is a subject of a catalog.
type subjectKey struct{ catalog, subject string }

// otherSubjects are those of catalogs whose schemas are no protos: models of JSON and Avro name them.
func (c *compiler) otherSubjects() map[subjectKey]bool {
	all := map[subjectKey]bool{}
	for b := range c.graph.each {
		for _, entry := range cacheTopics(b) {
			for part, file := range map[string]modelFile{"key": entry.Key, "value": entry.Value} {
				if file.values.Model.value != "json" && file.values.Model.value != "avro" {
					continue
				}
				for _, refs := range file.values.Catalog {
					for _, r := range refs.value {
						subject := r.Subject.value
						switch r.Strategy.value {
						case "topic":
							subject = entry.Name.value + "-" + part
						case "record":
							subject = r.Record.value
						case "topic-record":
							subject = entry.Name.value + "-" + r.Record.value
						}
						all[subjectKey{refs.name.value, subject}] = true
					}
				}
			}
		}
	}
	return all
}

// cacheTopicsOf checks what a binding says of topics, whether records pass it or not.
func (c *compiler) cacheTopicsOf(b *binding) {
	topics := cacheTopics(b)
	seen := map[string]bool{}
	for i := range topics {
		entry := &topics[i]
		if entry.Name.ok && seen[entry.Name.value] {
			c.report.problem(entry.Name.position, "%s: topic `%s` is in the list twice; remove one", entry.Name.place, entry.Name.raw)
		}
		seen[entry.Name.value] = true
		if entry.DeltaType.value == "json_patch" {
			c.report.problem(entry.DeltaType.position, "%s: no record here is a change of another one, as json_patch says; take none", entry.DeltaType.place)
		}
		c.model(entry, &entry.Key, "key")
		c.model(entry, &entry.Value, "value")
	}
}

// unusedTopics tells of what is said of topics and has no effect.
func (c *compiler) unusedTopics() {
	for b := range c.graph.each {
		topics := cacheTopics(b)
		for i := range topics {
			entry := &topics[i]
			says := entry.Key.given || entry.Value.given || len(entry.Transforms) > 0
			switch {
			case says && !c.topicsUsed[entry]:
				c.report.warn(entry.at, "%s is not used: no route here writes or reads topic `%s` through %s", entry.place, entry.Name.raw, b.place)
			case len(entry.Transforms) > 0 && !c.transforms[entry]:
				c.report.problem(entry.at, "%s: `transforms` are made where a grpc-kafka binding writes requests, and none writes to topic `%s`; remove them here", entry.place, entry.Name.raw)
			case entry.DefaultOffset.value == "live" && c.requests[entry]:
				c.report.problem(entry.DefaultOffset.position, "%s: requests are read from the oldest one when their group begins, so that none is lost; take historical, or remove it", entry.DefaultOffset.place)
			}
		}
	}
}
