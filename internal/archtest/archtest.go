package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Check reads every Go file below root and returns what breaks a rule, each
// with its place, the rule and the cure.
func Check(root fs.FS) ([]string, error) {
	c := checker{files: token.NewFileSet()}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skipped(name) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return c.file(name, source)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the sources: %w", err)
	}
	return c.broken, nil
}

// skipped folders are not ours to judge.
func skipped(folder string) bool {
	base := path.Base(folder)
	return folder != "." && strings.HasPrefix(base, ".") || base == "testdata" || base == "vendor" || slices.Contains(exempt(), folder)
}

type checker struct {
	files  *token.FileSet
	broken []string
}

func (c *checker) breaks(at token.Pos, format string, args ...any) {
	place := c.files.Position(at)
	c.broken = append(c.broken, fmt.Sprintf("%s:%d: ", place.Filename, place.Line)+fmt.Sprintf(format, args...))
}

// file checks one source file.
func (c *checker) file(name string, source []byte) error {
	f, err := parser.ParseFile(c.files, name, source, parser.ParseComments|parser.SkipObjectResolution) // comments say what is generated
	if err != nil {
		return err
	}
	folder := path.Dir(name)
	if lines := bytes.Count(source, []byte("\n")); lines > maxFileLines && !ast.IsGenerated(f) {
		c.breaks(f.Pos(), "the file has %d lines; %d are allowed: split it by what its parts are about", lines, maxFileLines)
	}
	place := slices.IndexFunc(rules(), func(r rule) bool { return r.folder == folder })
	if place < 0 {
		c.breaks(f.Pos(), "folder %q has no rule: say in rules.go what it may import, and in docs/architecture.md what it is", folder)
		return nil
	}
	for _, spec := range f.Imports {
		c.imported(rules()[place], spec)
	}
	for _, declaration := range f.Decls {
		if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			c.breaks(f.Pos(), "func init: nothing happens by being imported; let cmd call it")
		}
	}
	if slices.Contains(deciders(), folder) {
		c.decides(f, "the package decides and must be drivable by a simulation")
	} else if slices.Contains(injected(), folder) {
		c.clock(f, []string{"Now", "Since", "Until"}, "what the package writes down comes from its injected Now")
	}
	return nil
}

// imported checks one import of a folder.
func (c *checker) imported(r rule, spec *ast.ImportSpec) {
	target, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		c.breaks(spec.Pos(), "import path %s", spec.Path.Value)
		return
	}
	if spec.Name != nil && spec.Name.Name == "_" && target != "embed" && target != "time/tzdata" {
		c.breaks(spec.Pos(), "import of %s for its effects: nothing registers itself; let cmd wire it", target)
	}
	if spec.Name != nil && spec.Name.Name == "." {
		c.breaks(spec.Pos(), "import of %s with a dot: write its name, so that a reader sees whose words they are", target)
	}
	if ours, ok := strings.CutPrefix(target, module+"/"); ok {
		if !slices.Contains(r.imports, ours) {
			c.breaks(spec.Pos(), "%s must not import %s; it may import %s: move the code to where both may reach it, or let cmd hand it in by an interface",
				r.folder, ours, listed(r.imports))
		}
		return
	}
	if target == "C" {
		c.breaks(spec.Pos(), "cgo: the switch is one static binary, and even the security module reaches C only through the library of hsm/token")
		return
	}
	if strings.Contains(strings.Split(target, "/")[0], ".") {
		c.library(r.folder, target, spec)
	}
}

// library checks the import of another's package.
func (c *checker) library(folder, target string, spec *ast.ImportSpec) {
	for _, l := range libraries() {
		if target != l.path && !strings.HasPrefix(target, l.path+"/") {
			continue
		}
		if !slices.ContainsFunc(l.folders, func(f string) bool { return covers(f, folder) }) {
			c.breaks(spec.Pos(), "%s must not import %s (%s); only %s may: ask the package that owns it", folder, target, l.why, listed(l.folders))
		}
		if l.name != "" && target == l.path && (spec.Name == nil || spec.Name.Name != l.name) {
			c.breaks(spec.Pos(), "%s is imported as %s, so that a reader sees whose types they are", target, l.name)
		}
		return
	}
	c.breaks(spec.Pos(), "%s is a library without a row: say in rules.go who may import it and what for, and in the commit why it is worth it", target)
}

// covers says whether a folder of a row ("cmd/..." with all below) holds one.
func covers(row, folder string) bool {
	if below, ok := strings.CutSuffix(row, "..."); ok {
		return strings.HasPrefix(folder, below)
	}
	return row == folder
}

// decides checks a package that must have nothing of its own but its code.
func (c *checker) decides(f *ast.File, why string) {
	c.clock(f, clockReads(), why)
	for _, spec := range f.Imports {
		switch spec.Path.Value {
		case `"math/rand"`, `"math/rand/v2"`, `"crypto/rand"`, `"net"`, `"net/http"`, `"log"`:
			c.breaks(spec.Pos(), "import of %s: %s; take what is needed as an argument", spec.Path.Value, why)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if g, ok := n.(*ast.GoStmt); ok {
			c.breaks(g.Pos(), "go statement: %s; the caller owns goroutines", why)
		}
		return true
	})
}

// clock reports uses of the named functions of package time.
func (c *checker) clock(f *ast.File, functions []string, why string) {
	name := ""
	for _, spec := range f.Imports {
		if spec.Path.Value == `"time"` {
			name = "time"
			if spec.Name != nil {
				name = spec.Name.Name
			}
		}
	}
	if name == "" {
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok && x.Name == name && slices.Contains(functions, selector.Sel.Name) {
			c.breaks(n.Pos(), "time.%s: %s; take the moment as an argument", selector.Sel.Name, why)
		}
		return true
	})
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nothing of ours"
	}
	return strings.Join(names, ", ")
}
