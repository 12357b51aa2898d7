package topology

import "regexp"

// registryKinds are the types of catalogs that speak the protocol of Confluent's schema registry.
var registryKinds = []string{"schema-registry", "confluent-schema-registry", "karapace", "karapace-schema-registry"}

// registryCatalog holds schemas that another server has.
type registryCatalog struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Vault   text `yaml:"vault" doc:"the vault with the keys and certificates of tls"`
	Options struct {
		URL           text `yaml:"url" need:"true" doc:"where the registry is"`
		Context       text `yaml:"context" doc:"of the registry, where it has several"`
		MaxAge        int  `yaml:"max-age" is:"count" default:"300" doc:"seconds after which the latest version of a subject is looked up again"` // seconds
		Authorization text `yaml:"credentials.headers.authorization" doc:"value of the header, such as Basic or Bearer with what follows"`
		TLS           struct {
			Keys         []text `yaml:"keys" doc:"names of keys in the vault"`
			Trust        []text `yaml:"trust" doc:"names of certificates in the vault"`
			TrustCACerts text   `yaml:"trustcacerts" oneof:"true false" doc:"whether the authorities of the system are trusted, too"`
		} `yaml:"tls" doc:"how the registry is trusted, and what it is shown"`
	} `yaml:"options"`
}

// schemaRef names a schema of a registry.
type schemaRef struct {
	spot
	Subject  text          `yaml:"subject" doc:"of the registry"`
	Version  schemaVersion `yaml:"version" doc:"of the subject, or latest"`
	ID       schemaID      `yaml:"id" doc:"of a schema"`
	Strategy text          `yaml:"strategy" oneof:"topic record topic-record" doc:"what makes the subject"`
}

// writerRef is what files say of the schema of values that tell it themselves.
type writerRef struct {
	Subject  anything `yaml:"subject" idle:"a value tells the id of its schema" doc:"of a schema"`
	Version  anything `yaml:"version" idle:"a value tells the id of its schema" doc:"of a schema"`
	ID       anything `yaml:"id" idle:"a value tells the id of its schema" doc:"of a schema"`
	Strategy anything `yaml:"strategy" idle:"a value tells the id of its schema" doc:"of a schema"`
}

// schemaVersion is that of a subject.
type schemaVersion struct{ text }

var legalVersion = regexp.MustCompile((&schemaVersion{}).regexp())

func (*schemaVersion) regexp() string { return `^(latest|[1-9][0-9]{0,8})$` }

func (v *schemaVersion) parse(value string) string {
	if !legalVersion.MatchString(value) {
		return "must be a whole number from 1 or latest"
	}
	return ""
}

// schemaID is that of a schema.
type schemaID struct{ text }

var legalID = regexp.MustCompile((&schemaID{}).regexp())

func (*schemaID) regexp() string { return `^[1-9][0-9]{0,8}$` }

func (i *schemaID) parse(value string) string {
	if !legalID.MatchString(value) {
		return "must be a whole number from 1"
	}
	return ""
}
