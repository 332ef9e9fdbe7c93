# The plugtest resources on aiocoap's server.
import asyncio, sys
import aiocoap
from aiocoap import Context, Message, resource

LARGE = b''.join(b'%04d every line has its own number\n' % n for n in range(1, 61))

class Test(resource.Resource):
    async def render_get(self, request):
        return Message(payload=b'Hello', content_format=0)
    async def render_put(self, request):
        return Message(code=aiocoap.CHANGED)
    async def render_post(self, request):
        m = Message(code=aiocoap.CREATED)
        m.opt.location_path = ('location1', 'location2', 'location3')
        return m
    async def render_delete(self, request):
        return Message(code=aiocoap.DELETED)

class LocationQuery(resource.Resource):
    async def render_post(self, request):
        m = Message(code=aiocoap.CREATED)
        m.opt.location_query = ('first=1', 'second=2')
        return m

class Fixed(resource.Resource):
    def __init__(self, text):
        super().__init__()
        self.text = text
    async def render_get(self, request):
        return Message(payload=self.text, content_format=0)

class Query(resource.Resource):
    async def render_get(self, request):
        return Message(payload='\n'.join(request.opt.uri_query).encode(), content_format=0)

class Separate(resource.Resource):
    async def render_get(self, request):
        await asyncio.sleep(1)
        return Message(payload=b'That took some time', content_format=0)

class MultiFormat(resource.Resource):
    async def render_get(self, request):
        if request.opt.accept == 41:
            return Message(payload=b'<xml/>', content_format=41)
        return Message(payload=b'plain', content_format=0)

class Validate(resource.Resource):
    state, version = b'first', 0
    async def render_get(self, request):
        etag = bytes([0xe7, self.version])
        if etag in request.opt.etags:
            m = Message(code=aiocoap.VALID)
        else:
            m = Message(payload=self.state, content_format=0)
        m.opt.etag = etag
        return m
    async def render_put(self, request):
        if request.opt.if_match and bytes([0xe7, self.version]) not in request.opt.if_match:
            return Message(code=aiocoap.PRECONDITION_FAILED)
        self.state, self.version = request.payload, self.version + 1
        return Message(code=aiocoap.CHANGED)

class Create1(resource.Resource):
    state = None
    async def render_put(self, request):
        if self.state is not None and request.opt.if_none_match:
            return Message(code=aiocoap.PRECONDITION_FAILED)
        self.state = request.payload
        return Message(code=aiocoap.CREATED)
    async def render_delete(self, request):
        self.state = None
        return Message(code=aiocoap.DELETED)

class LargeUpdate(resource.Resource):
    state = LARGE
    async def render_get(self, request):
        return Message(payload=self.state, content_format=0)
    async def render_put(self, request):
        self.state = request.payload
        return Message(code=aiocoap.CHANGED)

class LargePost(resource.Resource):
    async def render_post(self, request):
        return Message(code=aiocoap.CHANGED, payload=request.payload.upper(), content_format=0)

class Obs(resource.ObservableResource):
    state = b'tick 0'
    def __init__(self):
        super().__init__()
        asyncio.get_running_loop().create_task(self.ticks())
    async def ticks(self):
        n = 0
        while True:
            await asyncio.sleep(0.4)
            n += 1
            self.state = b'tick %d' % n
            self.updated_state()
    async def render_get(self, request):
        return Message(payload=self.state, content_format=0)

async def main(port):
    site = resource.Site()
    site.add_resource(['.well-known', 'core'], resource.WKCResource(site.get_resources_as_linkheader))
    for path, what in [
        ('test', Test()), ('location-query', LocationQuery()), ('seg1/seg2/seg3', Fixed(b'three segments')), ('query', Query()),
        ('separate', Separate()), ('multi-format', MultiFormat()), ('validate', Validate()), ('create1', Create1()),
        ('large', Fixed(LARGE)), ('large-update', LargeUpdate()), ('large-post', LargePost()), ('obs', Obs()),
    ]:
        site.add_resource(path.split('/'), what)
    await Context.create_server_context(site, bind=('127.0.0.1', int(port)))
    print('serving', flush=True)
    await asyncio.get_running_loop().create_future()

asyncio.run(main(*sys.argv[1:]))
