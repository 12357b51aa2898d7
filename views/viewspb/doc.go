// Package viewspb is the protobuf service of the views, with its client and server.
package viewspb

//go:generate go run ../../internal/genproto views.proto
//go:generate go run ../../internal/genopenapi views.proto ../openapi.json
