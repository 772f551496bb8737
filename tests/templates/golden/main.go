// Executes templates with Go's own text/template and writes down what came of each: the reference for Corral's interpreter.
//
// Input: a JSON list of {"template", "data"}. Output: a JSON list of {"output", "error"}.
// Data are JSON, with numbers that have no point or exponent as int. An object {"$": TYPE, "value": …} is a value of one of
// the types here. `go run main.go < cases.json > answers.json`
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"text/template"
)

type Role string

type Inner struct {
	Name   string `json:"name"`
	Count  int    `json:"count,omitempty"`
	hidden bool
}

type Arguments map[string]any

func (a Arguments) String() string {
	text, _ := json.Marshal(map[string]any(a))
	return string(text)
}

type Call struct {
	Name      string
	Arguments Arguments
}

type Message struct {
	Role    string
	Content string
	Images  [][]byte          `json:",omitempty"`
	Calls   []Call            `json:"calls"`
	Meta    map[string]string `json:"Meta"`
	Kind    Role
	Inner   *Inner `json:"inner,omitempty"`
	Value   Inner
	Any     any
	Level   uint8
	Big     int64 `json:"big,omitempty"`
}

type Function struct {
	Index     int
	Name      string
	Arguments Arguments
}

type ToolCall struct {
	ID       string
	Function Function
}

type ChatMessage struct {
	Role       string
	Content    string
	Thinking   string
	Images     [][]byte
	ToolCalls  []ToolCall
	ToolName   string
	ToolCallID string
}

type Property struct {
	Type        []string `json:"type"`
	Description string   `json:"description,omitempty"`
	Enum        []any    `json:"enum,omitempty"`
}

func (p Property) ToTypeScriptType() string {
	return strings.Join(p.Type, " | ")
}

type Tool struct {
	Type       string              `json:"type"`
	Name       string              `json:"name"`
	Items      any                 `json:"items,omitempty"`
	Properties map[string]Property `json:"properties"`
}

func (t Tool) String() string {
	text, _ := json.Marshal(t)
	return string(text)
}

type Parameters struct {
	Type       string              `json:"type"`
	Required   []string            `json:"required,omitempty"`
	Properties map[string]Property `json:"properties"`
}

type ToolFunction struct {
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Parameters  Parameters `json:"parameters"`
}

type ChatTool struct {
	Type     string       `json:"type"`
	Function ToolFunction `json:"function"`
}

func (t ChatTool) String() string {
	text, _ := json.Marshal(t)
	return string(text)
}

type ChatTools []ChatTool

func (t ChatTools) String() string {
	text, _ := json.Marshal([]ChatTool(t))
	return string(text)
}

type Tools []Tool

func (t Tools) String() string {
	text, _ := json.Marshal([]Tool(t))
	return string(text)
}

var types = map[string]reflect.Type{
	"Role":             reflect.TypeFor[Role](),
	"Inner":            reflect.TypeFor[Inner](),
	"*Inner":           reflect.TypeFor[*Inner](),
	"Arguments":        reflect.TypeFor[Arguments](),
	"Call":             reflect.TypeFor[Call](),
	"[]Call":           reflect.TypeFor[[]Call](),
	"Message":          reflect.TypeFor[Message](),
	"*Message":         reflect.TypeFor[*Message](),
	"[]*Message":       reflect.TypeFor[[]*Message](),
	"[]Message":        reflect.TypeFor[[]Message](),
	"[]*ChatMessage":   reflect.TypeFor[[]*ChatMessage](),
	"ChatTools":        reflect.TypeFor[ChatTools](),
	"Property":         reflect.TypeFor[Property](),
	"*Property":        reflect.TypeFor[*Property](),
	"Tool":             reflect.TypeFor[Tool](),
	"*Tool":            reflect.TypeFor[*Tool](),
	"Tools":            reflect.TypeFor[Tools](),
	"[]string":         reflect.TypeFor[[]string](),
	"[]int":            reflect.TypeFor[[]int](),
	"[]byte":           reflect.TypeFor[[]byte](),
	"map[string]int":   reflect.TypeFor[map[string]int](),
	"map[string]Inner": reflect.TypeFor[map[string]Inner](),
	"uint8":            reflect.TypeFor[uint8](),
	"int64":            reflect.TypeFor[int64](),
	"bool":             reflect.TypeFor[bool](),
}

var functions = template.FuncMap{
	"json": func(v any) string {
		text, _ := json.Marshal(v)
		return string(text)
	},
	"currentDate":   func(args ...string) string { return "2026-11-25" },
	"yesterdayDate": func(args ...string) string { return "2026-11-24" },
	"toTypeScriptType": func(v any) string {
		if p, ok := v.(Property); ok {
			return p.ToTypeScriptType()
		}
		if p, ok := v.(*Property); ok && p != nil {
			return p.ToTypeScriptType()
		}
		return "any"
	},
}

// clip makes the capacity of every slice its length, so that it does not depend on how JSON was read.
func clip(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			clip(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				clip(v.Field(i))
			}
		}
	case reflect.Slice:
		if !v.IsNil() && v.CanSet() {
			v.Set(v.Slice3(0, v.Len(), v.Len()))
		}
		for i := range v.Len() {
			clip(v.Index(i))
		}
	}
}

func convert(raw any) any {
	switch v := raw.(type) {
	case json.Number:
		if n, err := strconv.Atoi(string(v)); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = convert(v[i])
		}
	case map[string]any:
		if name, ok := v["$"].(string); ok {
			return typed(name, v["value"])
		}
		for key := range v {
			v[key] = convert(v[key])
		}
	}
	return raw
}

func typed(name string, raw any) any {
	if name == "float" {
		f, err := strconv.ParseFloat(raw.(string), 64)
		if err != nil {
			panic(err)
		}
		return f
	}
	text, err := json.Marshal(raw)
	if err != nil {
		panic(err)
	}
	if types[name] == nil {
		panic("no type " + name)
	}
	value := reflect.New(types[name])
	if err := json.Unmarshal(text, value.Interface()); err != nil {
		panic(fmt.Sprintf("%s: %s: %v", name, text, err))
	}
	clip(value.Elem())
	return value.Elem().Interface()
}

type answer struct {
	Output string `json:"output"`
	Error  string `json:"error"`
}

func run(text string, data any) (result answer) {
	defer func() {
		if r := recover(); r != nil {
			result = answer{Error: fmt.Sprintf("panic: %v", r)}
		}
	}()
	parsed, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(text)
	if err != nil {
		return answer{Error: err.Error()}
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, data); err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Output: out.String()}
}

func main() {
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber()
	var cases []struct {
		Template string `json:"template"`
		Data     any    `json:"data"`
	}
	if err := decoder.Decode(&cases); err != nil {
		panic(err)
	}
	answers := []answer{}
	for _, c := range cases {
		answers = append(answers, run(c.Template, convert(c.Data)))
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answers); err != nil {
		panic(err)
	}
}
