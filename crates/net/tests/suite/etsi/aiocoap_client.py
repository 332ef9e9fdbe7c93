# The plugtest list as aiocoap's client plays it. It says "passed NAME" or "failed NAME why" for each case.
import asyncio, sys
import aiocoap
from aiocoap import Context, Message, GET, PUT, POST, DELETE, CON, NON

BODY = b''.join(b'%04d every line has its own number\n' % n for n in range(1, 75))

async def main(base):
    context = await Context.create_client_context()

    async def ask(code, path, expected=None, **options):
        reliability = options.pop('mtype', None)
        kwargs = {} if reliability is None else {'_mtype': reliability}
        message = Message(code=code, uri=base + '/' + path, **kwargs, **options)
        response = await asyncio.wait_for(context.request(message).response, 60)
        if expected is not None:
            assert str(response.code).startswith(expected), response.code
        return response

    async def case(name, body):
        for attempt in range(4):
            try:
                await body()
                print('passed', name, flush=True)
                return
            except Exception as e:
                problem = repr(e)
        print('failed', name, problem, flush=True)

    def plain(code, path, expected, **options):
        async def run():
            await ask(code, path, expected, **options)
        return run

    def text(path, wanted, **options):
        async def run():
            response = await ask(GET, path, '2.05', **options)
            assert response.payload.startswith(wanted), response.payload
        return run

    for kind, offset in ((CON, 0), (NON, 4)):
        await case('CORE_%02d' % (1 + offset), plain(GET, 'test', '2.05', mtype=kind))
        await case('CORE_%02d' % (2 + offset), plain(DELETE, 'test', '2.02', mtype=kind))
        await case('CORE_%02d' % (3 + offset), plain(PUT, 'test', '2.04', mtype=kind, payload=b'x', content_format=0))
        await case('CORE_%02d' % (4 + offset), plain(POST, 'test', '2.01', mtype=kind, payload=b'x', content_format=0))
    await case('CORE_09', text('separate', b'That took some time'))
    await case('CORE_10', text('test', b'Hello'))
    await case('CORE_13', text('seg1/seg2/seg3', b'three segments'))
    await case('CORE_14', text('query?first=1&second=2', b'first=1\nsecond=2'))
    await case('CORE_17', text('separate', b'That took some time', mtype=NON))

    async def core_18():
        response = await ask(POST, 'test', '2.01', payload=b'x')
        assert response.opt.location_path == ('location1', 'location2', 'location3')
    await case('CORE_18', core_18)

    async def core_19():
        response = await ask(POST, 'location-query', '2.01', payload=b'x')
        assert response.opt.location_query == ('first=1', 'second=2')
    await case('CORE_19', core_19)
    await case('CORE_20', text('multi-format', b'plain', accept=0))
    await case('CORE_20', text('multi-format', b'<format>', accept=41))

    async def core_21():
        first = await ask(GET, 'validate', '2.05')
        again = await ask(GET, 'validate', '2.03', etags=[first.opt.etag])
        assert again.payload == b'' and again.opt.etag == first.opt.etag
        await ask(PUT, 'validate', '2.04', payload=b'changed', content_format=0)
        after = await ask(GET, 'validate', '2.05', etags=[first.opt.etag])
        assert after.opt.etag != first.opt.etag
    await case('CORE_21', core_21)

    async def core_22():
        first = await ask(GET, 'validate', '2.05')
        await ask(PUT, 'validate', '2.04', payload=b'one', if_match=[first.opt.etag])
        await ask(PUT, 'validate', '4.12', payload=b'two', if_match=[first.opt.etag])
    await case('CORE_22', core_22)

    async def core_23():
        await ask(DELETE, 'create1', '2.02')
        await ask(PUT, 'create1', '2.01', payload=b'one', if_none_match=True)
        await ask(PUT, 'create1', '4.12', payload=b'two', if_none_match=True)
    await case('CORE_23', core_23)

    await case('LINK_01', text('.well-known/core', b'</test>'))
    await case('LINK_02', text('.well-known/core?rt=observe', b'</obs>'))
    await case('LINK_05', text('.well-known/core?if=If*', b'</link1>'))
    await case('LINK_07', text('.well-known/core?href=/link1', b'</link1>'))
    await case('LINK_09', text('path/sub1', b'/path/sub1'))

    async def block_02():
        response = await ask(GET, 'large', '2.05')
        assert len(response.payload) > 2000, len(response.payload)
    await case('BLOCK_02', block_02)

    async def block_06():
        response = await ask(GET, 'large', '2.05', block2=(0, False, 0))
        assert len(response.payload) > 2000, len(response.payload)
    await case('BLOCK_06', block_06)

    async def block_03():
        await ask(PUT, 'large-update', '2.04', payload=BODY, content_format=0)
        response = await ask(GET, 'large-update', '2.05')
        assert response.payload == BODY
    await case('BLOCK_03', block_03)

    async def block_04():
        created = await ask(POST, 'large-create', '2.01', payload=BODY, content_format=0)
        response = await ask(GET, '/'.join(created.opt.location_path), '2.05')
        assert response.payload == BODY
    await case('BLOCK_04', block_04)

    async def block_05():
        response = await ask(POST, 'large-post', '2.04', payload=BODY, content_format=0)
        assert response.payload == BODY.upper()
    await case('BLOCK_05', block_05)

    def observe(path, change=None, wanted=None):
        async def run():
            request = context.request(Message(code=GET, uri=base + '/' + path, observe=0))
            first = await asyncio.wait_for(request.response, 60)
            assert first.opt.observe is not None
            if change is not None:
                await change()
            seen = []
            async for notification in request.observation:
                seen.append(notification.payload)
                if len(seen) == 2 and wanted is None or wanted in seen:
                    break
            request.observation.cancel()
        async def bounded():
            await asyncio.wait_for(run(), 60)
        return bounded

    await case('OBS_01', observe('obs'))
    await case('OBS_02', observe('obs-non'))
    async def write():
        await ask(PUT, 'obs', '2.04', payload=b'written', content_format=0)
    await case('OBS_09', observe('obs', write, b'written'))
    await context.shutdown()
    print('client done', flush=True)

asyncio.run(main(*sys.argv[1:]))
