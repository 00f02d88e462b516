package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// folder is one package's sources, as far as limits need them.
type folder struct {
	name     string
	structs  map[string]*ast.StructType
	consts   map[string]constant
	defaults map[string]map[string]ast.Expr // of a type: by the path of its field, "Latency.Max"
}

type constant struct {
	value ast.Expr
	text  string
}

func readFolder(path string) (*folder, error) {
	f := &folder{
		name: filepath.Base(path), structs: map[string]*ast.StructType{}, consts: map[string]constant{},
		defaults: map[string]map[string]ast.Expr{},
	}
	names, err := filepath.Glob(filepath.Join(path, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
	}
	set := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read source: %w", err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.GenDecl:
				f.declare(d)
			case *ast.FuncDecl:
				if d.Recv != nil && strings.EqualFold(d.Name.Name, "withDefaults") {
					f.fills(d)
				}
			}
		}
	}
	return f, nil
}

func (f *folder) declare(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if t, ok := s.Type.(*ast.StructType); ok {
				f.structs[s.Name.Name] = t
			}
		case *ast.ValueSpec:
			if d.Tok != token.CONST {
				continue
			}
			text := words(s.Doc) + words(s.Comment)
			if text == "" {
				text = words(d.Doc)
			}
			for i, name := range s.Names {
				if i < len(s.Values) {
					f.consts[name.Name] = constant{s.Values[i], text}
				}
			}
		}
	}
}

// fills reads a WithDefaults: calls such as number(&c.Window, 256), and
// assignments such as c.LateAfter = 4 * time.Second.
func (f *folder) fills(d *ast.FuncDecl) {
	into := map[string]ast.Expr{}
	ast.Inspect(d.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if len(n.Args) != 2 {
				return true
			}
			if address, ok := n.Args[0].(*ast.UnaryExpr); ok && address.Op == token.AND {
				if p := path(address.X); p != "" {
					into[p] = n.Args[1]
				}
			}
		case *ast.AssignStmt:
			if len(n.Lhs) == 1 && len(n.Rhs) == 1 {
				if p := path(n.Lhs[0]); p != "" {
					into[p] = n.Rhs[0]
				}
			}
		}
		return true
	})
	receiver := d.Recv.List[0].Type
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver = pointer.X
	}
	name := receiver.(*ast.Ident).Name
	if f.defaults[name] == nil || len(into) > len(f.defaults[name]) { // not the one that only calls the other
		f.defaults[name] = into
	}
}

// path is a field's path below the receiver, "" where it is none.
func path(e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if _, receiver := s.X.(*ast.Ident); receiver {
		return s.Sel.Name
	}
	if above := path(s.X); above != "" {
		return above + "." + s.Sel.Name
	}
	return ""
}

// limits are the rows of a struct: its fields that are numbers or durations.
func (f *folder) limits(typ, prefix string) (rows []row, faults []error) {
	t := f.structs[typ]
	if t == nil {
		return nil, []error{fmt.Errorf("%s: no struct %s", f.name, typ)}
	}
	for _, field := range t.Fields.List {
		kind := typeName(field.Type)
		if field.Tag == nil || len(field.Names) == 0 || kind == "" {
			continue
		}
		tag, _ := strconv.Unquote(field.Tag.Value)
		key, _, _ := strings.Cut(reflect.StructTag(tag).Get("yaml"), ",")
		name := prefix + key
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s.%s (%s): "+format, append([]any{f.name, field.Names[0].Name, name}, args...)...))
		}
		value := int64(0)
		if e := f.defaults[typ][field.Names[0].Name]; e != nil {
			var err error
			if value, err = f.evaluate(e, typ); err != nil {
				fault("default: %w", err)
				continue
			}
		}
		reason, told := reasonOf(withoutName(words(field.Doc), field.Names[0].Name), words(field.Comment))
		if told != "" {
			if said, err := number(told); err != nil || said != value {
				fault("the comment says %q, the code fills in %d", told, value)
			}
		}
		if reason == "" {
			fault("a comment must say the reason")
		}
		unit := units()[key]
		if unit == "" && kind != "Duration" && !strings.HasSuffix(key, "bytes") {
			fault("give its unit in internal/limits")
		}
		shown, unit := show(value, kind == "Duration", unit)
		rows = append(rows, row{name, shown, unit, reason})
	}
	return rows, faults
}

// constant is the row of a bound that no file changes.
func (f *folder) constant(folder, name, unit string) (row, error) {
	c, ok := f.consts[name]
	if !ok {
		return row{}, fmt.Errorf("%s: no constant %s", folder, name)
	}
	value, err := f.evaluate(c.value, "")
	if err != nil {
		return row{}, fmt.Errorf("%s.%s: %w", folder, name, err)
	}
	reason := withoutName(c.text, name)
	if reason == "" {
		return row{}, fmt.Errorf("%s.%s: a comment must say the reason", folder, name)
	}
	duration := unit == ""
	if unit == "bytes" {
		unit = ""
	}
	shown, unit := show(value, duration, unit)
	return row{folder + "." + name, shown, unit, escape(reason)}, nil
}

// typeName is "int", "Duration" and so on for what can be a limit, else "".
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		switch e.Name {
		case "int", "int64", "float64", "Duration": // the last is merchant's own, which JSON can hold
			return e.Name
		}
	case *ast.SelectorExpr:
		if e.Sel.Name == "Duration" {
			return "Duration"
		}
	}
	return ""
}

// A comment that begins with the default ("150 ms: …", "16,384 waiting …") or
// holds it ("…; default 64") says it a second time, for who reads the source.
var (
	leading = regexp.MustCompile(`^(\d(?:[\d,_.]*\d)?(?: ?(?:ms|µs|s|m|h|KiB|MiB)\b)?)[:;,]? *`)
	stated  = regexp.MustCompile(`(?:^|[;,] *)default (\d(?:[\d,_]*\d)?(?: ?(?:ms|µs|s|m|h|KiB|MiB)\b)?)[;,]? *`)
)

// reasonOf joins a field's comments and takes the default out of them.
func reasonOf(doc, comment string) (reason, told string) {
	if m := leading.FindStringSubmatch(comment); m != nil {
		comment, told = comment[len(m[0]):], m[1]
	} else if m := stated.FindStringSubmatchIndex(comment); m != nil {
		told = comment[m[2]:m[3]]
		comment = strings.Trim(comment[:m[0]]+"; "+comment[m[1]:], "; ")
	}
	parts := []string{}
	for _, part := range []string{comment, doc} {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return escape(strings.Join(parts, ". ")), told
}

// withoutName takes the name off a comment that begins with it, as Go's do.
func withoutName(text, name string) string {
	rest, ok := strings.CutPrefix(text, name+" ")
	if !ok || strings.HasPrefix(rest, "and ") {
		return text
	}
	return strings.TrimPrefix(rest, "is ")
}

// escape keeps a comment from ending its cell.
func escape(s string) string { return strings.ReplaceAll(strings.TrimSuffix(s, "."), "|", `\|`) }

// words is a comment on one line.
func words(g *ast.CommentGroup) string {
	if g == nil {
		return ""
	}
	return strings.Join(strings.Fields(g.Text()), " ")
}

// number reads what a comment says: nanoseconds or a plain number.
func number(text string) (int64, error) {
	text = strings.NewReplacer(",", "", "_", "", " ", "").Replace(text)
	for suffix, factor := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if digits, ok := strings.CutSuffix(text, suffix); ok {
			n, err := strconv.ParseInt(digits, 10, 64)
			return n * factor, err //nolint:wrapcheck // the caller says what it read
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	d, err := time.ParseDuration(text)
	return int64(d), err //nolint:wrapcheck // the caller says what it read
}

// show is a value in the unit that a person would use.
func show(value int64, duration bool, unit string) (shown, shownUnit string) {
	if unit != "" {
		return grouped(value), unit
	}
	type step struct {
		size int64
		name string
	}
	steps, zero := []step{{1 << 20, "MiB"}, {1 << 10, "KiB"}, {1, "bytes"}}, "bytes"
	if duration {
		zero = "s"
		steps = []step{{int64(time.Hour), "h"}, {int64(time.Second), "s"}, {int64(time.Millisecond), "ms"}, {int64(time.Microsecond), "µs"}, {1, "ns"}}
	}
	if value == 0 {
		return "0", zero
	}
	for _, s := range steps {
		if value%s.size == 0 {
			return grouped(value / s.size), s.name
		}
	}
	return grouped(value), "" // not reached: the last step is 1
}

// grouped writes 16384 as 16,384.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}
