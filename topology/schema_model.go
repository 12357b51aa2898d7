package topology

import "github.com/goccy/go-yaml/ast"

// cacheTopic says what the records of a topic have to be like.
type cacheTopic struct {
	spot
	Name          text        `yaml:"name" need:"true" doc:"of the topic"`
	DefaultOffset text        `yaml:"defaultOffset" oneof:"live historical" doc:"where reading begins; requests are read from the oldest in any case"`
	DeltaType     text        `yaml:"deltaType" oneof:"none json_patch" doc:"none: records hold their values as a whole"`
	Key           modelFile   `yaml:"key" doc:"what keys have to be like"`
	Value         modelFile   `yaml:"value" doc:"what values have to be like"`
	Transforms    []transform `yaml:"transforms" doc:"what is put into records that are written from the fields of their values"`
}

type transform struct {
	spot
	ExtractKey     text        `yaml:"extract-key" doc:"the key of the records of a call, such as ${message.value.id}"`
	ExtractHeaders named[text] `yaml:"extract-headers" doc:"headers of the records, by name"`
}

// modelFile is a model that may be missing.
type modelFile struct {
	given  bool
	values modelValues
}

func (m *modelFile) inner() any { return &m.values }

func (m *modelFile) decode(d *decoder, n ast.Node, at position, p place) {
	m.given = true
	setDefaults(valueOf(&m.values))
	d.value(n, at, valueOf(&m.values), p, "")
}

type modelValues struct {
	spot
	Model     text              `yaml:"model" need:"true" oneof:"string int32 int64 float double json avro protobuf" doc:"what they are"`
	Encoding  text              `yaml:"encoding" oneof:"utf_8 utf_16" doc:"of a string; without it, utf_8"`
	Pattern   text              `yaml:"pattern" doc:"a regular expression that a string matches"`
	MinLength int               `yaml:"minLength" is:"count" doc:"least characters of a string"`
	MaxLength int               `yaml:"maxLength" is:"count" doc:"most characters of a string"`
	Format    text              `yaml:"format" oneof:"text binary" doc:"of a number; without it, text"`
	Multiple  text              `yaml:"multiple" doc:"what a number is a multiple of"`
	Range     text              `yaml:"range" doc:"where a number lies, such as [0,100) or (,10]"`
	View      anything          `yaml:"view" instead:"values are checked and stay what they are: a message of gRPC is protobuf on both sides"`
	Catalog   named[[]modelRef] `yaml:"catalog" doc:"the schema of json, avro or protobuf, by catalog"`
}

type modelRef struct {
	schemaRef
	Record text `yaml:"record" doc:"name of the message of a proto, or of the record that strategy needs"`
}
